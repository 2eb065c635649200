"""The HTTP side of one running container: requests in, whatever it answers out.

Only what the caller gives is sent: no header of the client library reaches the container.
"""

import asyncio
import time
from collections.abc import Mapping
from dataclasses import dataclass, field

import httpx

# Two are needed on every message; the others are the client library's own wishes.
_LIBRARY_HEADERS = ("accept", "accept-encoding", "user-agent")


class ConnectionBroken(Exception):
    """The container went away, or never was there, before an answer came."""


class ResponseTimeout(Exception):
    """No answer within the time that was given."""


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
        within_s: float,
        body: bytes = b"",
        headers: Mapping[str, str] | None = None,
    ) -> ContainerResponse:
        """Raises ConnectionBroken and ResponseTimeout; every status is an answer."""
        began = time.perf_counter()
        try:
            async with asyncio.timeout(within_s):
                response = await self._client.request(
                    method, path, content=body or None, headers=headers
                )
        except TimeoutError:
            raise ResponseTimeout(f"{method} {path}") from None
        except httpx.TransportError as error:
            raise ConnectionBroken(f"{method} {path}: {error!r}") from error
        seconds = time.perf_counter() - began
        return ContainerResponse(response.status_code, response.content, response.headers, seconds)

    async def answers(self, path: str, within_s: float) -> bool:
        """Whether a GET is answered 200 in time."""
        try:
            return (await self.call("GET", path, within_s=within_s)).status == 200
        except (ConnectionBroken, ResponseTimeout):
            return False

    async def close(self) -> None:
        await self._client.aclose()
