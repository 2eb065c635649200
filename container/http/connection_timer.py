"""The deadline of a connection. Moving it with every request costs a look at the clock and no timer."""

import asyncio
import math
from collections.abc import Callable

RESOLUTION_S = 0.001  # of the event loop's clock


class ConnectionTimer:
    """Calls `expired` once `deadline` has passed, on the event loop's clock. The timer beneath is restarted
    only when the deadline moves before `fires_at`: when it fires too early, it waits for the rest."""

    __slots__ = ("_expired", "_loop", "_timer", "deadline", "fires_at")

    def __init__(self, loop: asyncio.AbstractEventLoop, expired: Callable[[], None]) -> None:
        self._loop = loop
        self._expired = expired
        self.deadline = math.inf
        self.fires_at = math.inf
        self._timer: asyncio.TimerHandle | None = None

    def set(self, seconds: float) -> None:
        self.deadline = self._loop.time() + seconds
        if self.deadline < self.fires_at:
            self.restart()

    def shorten(self, seconds: float) -> None:
        """Like `set`, unless the deadline is earlier already."""
        if self._loop.time() + seconds < self.deadline:
            self.set(seconds)

    def cancel(self) -> None:
        self.deadline = self.fires_at = math.inf
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def restart(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self.fires_at = self.deadline
        self._timer = self._loop.call_at(self.deadline, self._fired)

    def _fired(self) -> None:
        self._timer = None
        self.fires_at = math.inf
        if self.deadline == math.inf:
            return
        if self.deadline - self._loop.time() > RESOLUTION_S:
            self.restart()
        else:
            self.deadline = math.inf
            self._expired()
