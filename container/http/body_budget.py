"""A budget of bytes for the request bodies that the front holds: those that arrive and those that wait for
their answer.

A body is admitted before it is read, with all of its declared bytes, so that two half-read bodies never wait
for each other. A body that finds no room waits unread in the client's socket, in the order of arrival. One
model holds at most half of the budget. Bodies of at most SMALL_NBYTES are not counted: requests that control
the container always get through.
"""

import asyncio
import ctypes
from collections import Counter, deque
from collections.abc import Callable
from contextlib import suppress
from typing import Protocol

from container.http.error_replies import BodyTimeout
from model_handler.errors import QueueFull

SMALL_NBYTES = 64 << 10
CHUNKED_NBYTES = 1 << 20  # admitted at first for a body of unknown length
WAIT_S = 10.0  # then the request is refused
CHECK_S = 0.5
GRACE_S = 2.0  # while others wait, a body may arrive more slowly than
SLOW_NBYTES_PER_S = 1 << 20  # this rate only for so long
TRIM_NBYTES = 64 << 20  # when so many bytes fewer are held than at the last peak
TRIM_AFTER_S = 1.0
LIBC = ctypes.CDLL(None)


def give_back() -> None:
    """Give free memory back to the system: the C library keeps it otherwise."""
    if hasattr(LIBC, "malloc_trim"):
        LIBC.malloc_trim(0)


class ArrivingBody(Protocol):
    @property
    def nbytes(self) -> int:
        """Received so far."""

    @property
    def complete(self) -> bool: ...

    def fail(self, error: Exception) -> None:
        """End its arrival with the error."""


class BodyShare:
    """Bytes of the budget that one request holds until `release`."""

    __slots__ = ("_budget", "began", "body", "key", "nbytes")

    def __init__(self, budget: "BodyBudget", body: ArrivingBody, key: str, nbytes: int) -> None:
        self._budget = budget
        self.body = body
        self.key = key
        self.nbytes = nbytes
        self.began = 0.0  # when it was admitted

    def resize(self, nbytes: int) -> bool:
        """False, and nothing changes, if there is no room."""
        return self._budget.resize(self, nbytes)

    def release(self) -> None:
        """May be called more than once."""
        self._budget.release(self)


class BodyBudget:
    """`trim`: called when much less is held than before."""

    def __init__(self, nbytes: int, trim: Callable[[], None] = give_back) -> None:
        self._nbytes = nbytes
        self._trim = trim
        self._trimming: asyncio.TimerHandle | None = None
        self._held_nbytes = 0
        self._held_by: Counter[str] = Counter()
        self._shares: set[BodyShare] = set()
        self._waiting: deque[tuple[BodyShare, asyncio.Future[None]]] = deque()
        self._timer: asyncio.TimerHandle | None = None
        self._peak_nbytes = 0  # since memory was last given back

    async def admit(self, body: ArrivingBody, key: str, nbytes: int) -> BodyShare:
        """Wait for room. `key`: the model. Raises QueueFull after WAIT_S."""
        loop = asyncio.get_running_loop()
        share = BodyShare(self, body, key, nbytes)
        if not any(each.key == key for each, _ in self._waiting) and self._fits(share):
            self._take(share, loop.time())
            return share
        waiter = share, loop.create_future()
        self._waiting.append(waiter)
        self._watch(loop)
        try:
            async with asyncio.timeout(WAIT_S):
                await waiter[1]
        except TimeoutError:
            share.release()  # it may have been admitted in the same turn of the loop
            raise QueueFull(
                f"request bodies hold {self._held_nbytes} of MME_BODY_MEMORY={self._nbytes} bytes"
            ) from None
        except BaseException:  # cancellation included: the share must not stay taken
            share.release()
            raise
        finally:
            with suppress(ValueError):
                self._waiting.remove(waiter)
            self._admit_waiting()
        return share

    def _fits(self, share: BodyShare) -> bool:
        if self._held_nbytes + share.nbytes > self._nbytes:
            return share.nbytes > self._nbytes and not self._held_nbytes
        held = self._held_by[share.key]
        return not held or held + share.nbytes <= self._nbytes // 2

    def _take(self, share: BodyShare, now: float) -> None:
        share.began = now
        self._shares.add(share)
        self._held_nbytes += share.nbytes
        self._held_by[share.key] += share.nbytes
        self._peak_nbytes = max(self._peak_nbytes, self._held_nbytes)

    def resize(self, share: BodyShare, nbytes: int) -> bool:
        if share not in self._shares:
            return True  # released: the rest of its body is discarded
        grown = nbytes - share.nbytes
        if self._held_nbytes + grown > self._nbytes and grown > 0:
            return False
        share.nbytes = nbytes
        self._held_nbytes += grown
        self._held_by[share.key] += grown
        if grown < 0:
            self._admit_waiting()
        return True

    def release(self, share: BodyShare) -> None:
        if share not in self._shares:
            return
        self._shares.remove(share)
        self._held_nbytes -= share.nbytes
        self._held_by[share.key] -= share.nbytes
        if not self._held_by[share.key]:
            del self._held_by[share.key]
        self._admit_waiting()
        if self._trimming is None and self._peak_nbytes - self._held_nbytes > TRIM_NBYTES:
            loop = asyncio.get_running_loop()
            self._trimming = loop.call_later(TRIM_AFTER_S, self._trim_if_lower)

    def _trim_if_lower(self) -> None:
        """Otherwise the next release looks again: some bodies may arrive all the while."""
        self._trimming = None
        if self._peak_nbytes - self._held_nbytes > TRIM_NBYTES:
            self._peak_nbytes = self._held_nbytes
            self._trim()

    def _admit_waiting(self) -> None:
        """A model at its half of the budget does not hold up the others; a large body does, so that small
        ones cannot overtake it for ever."""
        for share, admitted in list(self._waiting):
            if admitted.done():
                continue
            if self._fits(share):
                self._take(share, asyncio.get_running_loop().time())
                admitted.set_result(None)
            elif self._held_nbytes + share.nbytes > self._nbytes:
                return

    # ---- slow bodies ----

    def _watch(self, loop: asyncio.AbstractEventLoop) -> None:
        if self._timer is None:
            self._timer = loop.call_later(CHECK_S, self._end_slow, loop)

    def _end_slow(self, loop: asyncio.AbstractEventLoop) -> None:
        self._timer = None
        if not self._waiting:
            return
        now = loop.time()
        for share in self._shares:
            age = now - share.began
            slow = not share.body.complete and share.body.nbytes < SLOW_NBYTES_PER_S * age
            if slow and age > GRACE_S:
                share.body.fail(BodyTimeout("the body arrives too slowly while others wait"))
        self._watch(loop)
