"""A container that serves one model, or transforms bodies within a pipeline: POST /invocations."""

from collections.abc import Mapping

from emulator.containers.client import ContainerClient, ContainerResponse, ResponseTimeout
from emulator.invocation_errors import ContainerErrors
from emulator.limits import Limits


class SingleModelContainer:
    def __init__(self, server: ContainerClient, limits: Limits, origin: ContainerErrors) -> None:
        self._server = server
        self._limits = limits
        self._origin = origin

    def holds(self, target: str | None) -> bool:
        return True

    async def invoke(
        self, target: str | None, body: bytes, headers: Mapping[str, str]
    ) -> ContainerResponse:
        """Raises InvocationFailed and ConnectionBroken."""
        try:
            return await self._server.call(
                "POST",
                "/invocations",
                within_s=self._limits.invoke_s,
                body=body,
                headers=headers,
            )
        except ResponseTimeout:
            raise self._origin.timed_out() from None

    async def close(self) -> None:
        return
