"""A container that serves one model, or transforms bodies within a pipeline: POST /invocations."""

from collections.abc import Mapping

from emulator.containers.client import Answer, AnswerLate, Server
from emulator.invocation_errors import Origin
from emulator.limits import Limits


class SingleModelContainer:
    def __init__(self, server: Server, limits: Limits, origin: Origin) -> None:
        self._server = server
        self._limits = limits
        self._origin = origin

    def holds(self, target: str | None) -> bool:
        return True

    async def invoke(self, target: str | None, body: bytes, headers: Mapping[str, str]) -> Answer:
        """Raises InvocationFailed and ConnectionBroken."""
        try:
            return await self._server.call(
                "POST",
                "/invocations",
                within_s=self._limits.invoke_s,
                body=body,
                headers=headers,
            )
        except AnswerLate:
            raise self._origin.timed_out() from None

    async def close(self) -> None:
        return
