"""Reading a request's body within bounds, and noticing that the client has left.

Always true: no more than the limit plus one chunk is ever held.
"""

import asyncio
from collections.abc import Awaitable, Mapping
from contextlib import suppress
from typing import TypeVar

import msgspec

from container.asgi import Receive
from container.refusals import BodyTimeout, BodyTooLarge, ClientGone

DRAIN_NBYTES = 256 << 20
DRAIN_S = 10.0
T = TypeVar("T")


class BodyLimit(msgspec.Struct, frozen=True):
    nbytes: int
    seconds: float


async def read(headers: Mapping[bytes, bytes], receive: Receive, limit: BodyLimit) -> bytes:
    """The whole body. Raises BodyTooLarge before asking for a body that is declared too long."""
    declared = headers.get(b"content-length")
    if declared is not None and int(declared) > limit.nbytes:
        raise _too_large(limit)
    try:
        async with asyncio.timeout(limit.seconds):
            return await _collect(receive, limit)
    except TimeoutError:
        raise BodyTimeout(f"the body did not arrive within {limit.seconds:g} s") from None


async def _collect(receive: Receive, limit: BodyLimit) -> bytes:
    chunk, more = await _next_chunk(receive)
    if not more and len(chunk) <= limit.nbytes:
        return chunk  # nearly every request: no copy
    body = bytearray(chunk)
    while more and len(body) <= limit.nbytes:
        chunk, more = await _next_chunk(receive)
        body += chunk
    if len(body) > limit.nbytes:
        raise _too_large(limit)
    return bytes(body)


async def _next_chunk(receive: Receive) -> tuple[bytes, bool]:
    message = await receive()
    if message["type"] == "http.disconnect":
        raise ClientGone
    return message["body"], message["more_body"]


def _too_large(limit: BodyLimit) -> BodyTooLarge:
    return BodyTooLarge(f"the body is larger than {limit.nbytes} bytes")


async def drain(receive: Receive) -> None:
    """Discard what is left of a body, within bounds.

    Closing a connection with unread data resets it, and the client would lose the answer.
    """
    left = DRAIN_NBYTES
    more = True
    with suppress(TimeoutError, ClientGone):
        async with asyncio.timeout(DRAIN_S):
            while more and left > 0:
                chunk, more = await _next_chunk(receive)
                left -= len(chunk)


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
