"""The body of one request, collected while it arrives.

Invariant: a body that is being read holds at most its limit and one read of the socket.
"""

import asyncio

import msgspec

from container.http.error_replies import BodyTimeout, BodyTooLarge


class BodyLimit(msgspec.Struct, frozen=True):
    """`seconds`: from the call of `read` to the last byte."""

    nbytes: int
    seconds: float


class Body:
    """Filled by the connection, read once by a route."""

    __slots__ = ("_arrival", "_failure", "_limit_nbytes", "_pieces", "complete", "nbytes")

    def __init__(self) -> None:
        self.complete = False
        self.nbytes = 0  # received so far
        self._pieces: list[bytes] = []
        self._limit_nbytes: int | None = None  # None until `read` is called
        self._arrival: asyncio.Future[None] | None = None
        self._failure: Exception | None = None

    @property
    def unread(self) -> bool:
        return self._limit_nbytes is None

    # ---- the connection's side ----

    def receive(self, piece: bytes) -> None:
        self.nbytes += len(piece)
        if self._limit_nbytes is None or self.nbytes <= self._limit_nbytes:
            self._pieces.append(piece)
        else:
            self._wake()

    def finish(self) -> None:
        self.complete = True
        if self._arrival is not None:
            self._wake()

    def fail(self, error: Exception) -> None:
        """No more will arrive: `read` raises `error`."""
        self._failure = error
        self._wake()

    def discard(self) -> None:
        """Free what arrived."""
        self._pieces = []

    def _wake(self) -> None:
        if self._arrival is not None and not self._arrival.done():
            self._arrival.set_result(None)

    # ---- the route's side ----

    async def read(self, limit: BodyLimit) -> bytes:
        """The whole body. Raises BodyTooLarge, BodyTimeout, or the error given to `fail`."""
        self._limit_nbytes = limit.nbytes
        if not self.complete and self.nbytes <= limit.nbytes and self._failure is None:
            await self._arrive(limit)
        if self._failure is not None:
            raise self._failure
        if self.nbytes > limit.nbytes:
            raise too_large(limit)
        pieces, self._pieces = self._pieces, []
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    async def _arrive(self, limit: BodyLimit) -> None:
        """Return when the body is complete, over the limit, or has failed."""
        self._arrival = asyncio.get_running_loop().create_future()
        try:
            async with asyncio.timeout(limit.seconds):
                await self._arrival
        except TimeoutError:
            raise BodyTimeout(f"the body did not arrive within {limit.seconds:g} s") from None
        finally:
            self._arrival = None


def too_large(limit: BodyLimit) -> BodyTooLarge:
    return BodyTooLarge(f"the body is larger than {limit.nbytes} bytes")
