"""The HTTP client of one running container.

It sends the caller's headers only: those that the HTTP library would add are removed.
"""

import asyncio
import time
from collections.abc import Mapping
from dataclasses import dataclass, field

import httpx

# Defaults of httpx. Only Host and Connection, which HTTP needs, stay.
_LIBRARY_HEADERS = ("accept", "accept-encoding", "user-agent")


class ConnectionBroken(Exception):
    """The connection failed or was closed before a response arrived."""


class ResponseTimeout(Exception):
    """No response within the time limit."""


@dataclass(frozen=True, slots=True)
class ContainerResponse:
    status: int
    body: bytes
    headers: Mapping[str, str] = field(default_factory=dict)
    seconds: float = 0.0

    @property
    def ok(self) -> bool:
        return self.status // 100 == 2


class ContainerClient:
    def __init__(self, url: str) -> None:
        self._client = httpx.AsyncClient(
            base_url=url,
            trust_env=False,
            timeout=None,
            limits=httpx.Limits(max_connections=None, max_keepalive_connections=20),
        )
        for name in _LIBRARY_HEADERS:
            del self._client.headers[name]

    async def call(
        self,
        method: str,
        path: str,
        *,
        timeout_s: float,
        body: bytes = b"",
        headers: Mapping[str, str] | None = None,
    ) -> ContainerResponse:
        """Returns a response of any status. Raises ConnectionBroken and ResponseTimeout."""
        began = time.perf_counter()
        try:
            async with asyncio.timeout(timeout_s):
                response = await self._client.request(
                    method, path, content=body or None, headers=headers
                )
        except TimeoutError:
            raise ResponseTimeout(f"{method} {path}") from None
        except httpx.TransportError as error:
            raise ConnectionBroken(f"{method} {path}: {error!r}") from error
        seconds = time.perf_counter() - began
        return ContainerResponse(response.status_code, response.content, response.headers, seconds)

    async def is_ok(self, path: str, timeout_s: float) -> bool:
        """Whether a GET returns 200 within the time limit."""
        try:
            return (await self.call("GET", path, timeout_s=timeout_s)).status == 200
        except (ConnectionBroken, ResponseTimeout):
            return False

    async def close(self) -> None:
        await self._client.aclose()
