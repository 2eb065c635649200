"""A container with one model, or a step of a pipeline: invoked by POST /invocations."""

from collections.abc import Mapping

from emulator.containers.client import ContainerClient, ContainerResponse, ResponseTimeout
from emulator.invocation_errors import ContainerErrors
from emulator.limits import PlatformLimits


class SingleModelContainer:
    def __init__(
        self, client: ContainerClient, limits: PlatformLimits, errors: ContainerErrors
    ) -> None:
        self._client = client
        self._limits = limits
        self._errors = errors

    def holds(self, target: str | None) -> bool:
        return True

    async def invoke(
        self, target: str | None, body: bytes, headers: Mapping[str, str]
    ) -> ContainerResponse:
        """Raises InvocationFailed and ConnectionBroken."""
        try:
            return await self._client.call(
                "POST",
                "/invocations",
                timeout_s=self._limits.invoke_s,
                body=body,
                headers=headers,
            )
        except ResponseTimeout:
            raise self._errors.timed_out() from None

    async def close(self) -> None:
        return
