"""The deadline of a connection. Moving it with every request costs a look at the clock and no timer."""

import asyncio
import math
from collections.abc import Callable

RESOLUTION_S = 0.001  # of the event loop's clock


class ConnectionTimer:
    """Calls `expired` once the deadline has passed. The timer beneath is not restarted when the deadline
    moves further away: when it fires too early, it waits for the rest."""

    __slots__ = ("_at", "_expired", "_fires_at", "_loop", "_timer")

    def __init__(self, loop: asyncio.AbstractEventLoop, expired: Callable[[], None]) -> None:
        self._loop = loop
        self._expired = expired
        self._at = math.inf
        self._fires_at = math.inf
        self._timer: asyncio.TimerHandle | None = None

    def set(self, seconds: float) -> None:
        self._at = at = self._loop.time() + seconds
        if at < self._fires_at:
            self._restart()

    def shorten(self, seconds: float) -> None:
        """Like `set`, unless the deadline is earlier already."""
        if self._loop.time() + seconds < self._at:
            self.set(seconds)

    def clear(self) -> None:
        self._at = math.inf

    def cancel(self) -> None:
        self._at = self._fires_at = math.inf
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _restart(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._fires_at = self._at
        self._timer = self._loop.call_at(self._at, self._fired)

    def _fired(self) -> None:
        self._timer = None
        self._fires_at = math.inf
        if self._at == math.inf:
            return
        if self._at - self._loop.time() > RESOLUTION_S:
            self._restart()
        else:
            self._at = math.inf
            self._expired()
