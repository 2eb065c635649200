"""Reading a request's body within bounds, and noticing that the client has left.

Always true: no more than the limit plus one chunk is ever held.
"""

import asyncio
from collections.abc import Awaitable, Mapping
from contextlib import suppress
from typing import TypeVar

import msgspec

from container.asgi import Receive
from container.http.error_replies import BodyTimeout, BodyTooLarge, ClientGone

DRAIN_NBYTES = 256 << 20
DRAIN_S = 10.0
T = TypeVar("T")


class BodyLimit(msgspec.Struct, frozen=True):
    nbytes: int
    seconds: float


class Body:
    """What the client sends after the head, once, as it arrives."""

    __slots__ = ("_receive", "more")

    def __init__(self, receive: Receive) -> None:
        self._receive = receive
        self.more = True  # as far as we know

    async def read(self, headers: Mapping[bytes, bytes], limit: BodyLimit) -> bytes:
        """All of it. Raises BodyTooLarge before asking for a body that is declared too long."""
        declared = headers.get(b"content-length")
        if declared is not None and int(declared) > limit.nbytes:
            raise _too_large(limit)
        try:
            async with asyncio.timeout(limit.seconds):
                return await self._collect(limit)
        except TimeoutError:
            raise BodyTimeout(f"the body did not arrive within {limit.seconds:g} s") from None

    async def _collect(self, limit: BodyLimit) -> bytes:
        chunk = await self._chunk()
        if not self.more and len(chunk) <= limit.nbytes:
            return chunk  # nearly every request: no copy
        content = bytearray(chunk)
        while self.more and len(content) <= limit.nbytes:
            content += await self._chunk()
        if len(content) > limit.nbytes:
            raise _too_large(limit)
        return bytes(content)

    async def _chunk(self) -> bytes:
        message = await self._receive()
        if message["type"] == "http.disconnect":
            self.more = False
            raise ClientGone
        self.more = message["more_body"]
        chunk: bytes = message["body"]
        return chunk

    async def drain(self) -> None:
        """Discard what is left, within bounds.

        Closing a connection with unread data resets it, and the client would lose the answer.
        """
        left_nbytes = DRAIN_NBYTES
        with suppress(TimeoutError, ClientGone):
            async with asyncio.timeout(DRAIN_S):
                while self.more and left_nbytes > 0:
                    left_nbytes -= len(await self._chunk())


def _too_large(limit: BodyLimit) -> BodyTooLarge:
    return BodyTooLarge(f"the body is larger than {limit.nbytes} bytes")


async def while_connected(receive: Receive, work: Awaitable[T]) -> T:
    """What `work` returns. Raises ClientGone when the client leaves first: `work` was cancelled."""
    task = asyncio.current_task()
    assert task is not None
    watcher = asyncio.create_task(_cancel_when_gone(receive, task))
    try:
        return await work
    except asyncio.CancelledError:
        if not watcher.done():
            raise
        task.uncancel()
        raise ClientGone from None
    finally:
        watcher.cancel()


async def _cancel_when_gone(receive: Receive, task: asyncio.Task[object]) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass  # an empty chunk, once the body has been read
    task.cancel()
