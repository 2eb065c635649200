"""How long the requests of one model waited for busy workers while another worker was idle.

Times are on any one clock, in seconds. The total starts again at 0 when no wait
ended for MEMORY_S.
"""

import math

MEMORY_S = 10.0


class Delays:
    def __init__(self) -> None:
        self._total_s = 0.0
        self._latest = -math.inf
        self._since: float | None = None
        self._not_before = -math.inf

    def begin(self, now: float) -> bool:
        """Requests wait from now on. False if they did before."""
        if self._since is not None:
            return False
        self._since = now
        return True

    def end(self, now: float) -> None:
        if self._since is not None:
            self.add(now - self._since, now)
            self._since = None

    def add(self, seconds: float, now: float) -> None:
        if now - self._latest > MEMORY_S:
            self._total_s = 0.0
        self._total_s += seconds
        self._latest = now

    def total_s(self, now: float) -> float:
        """0 while `refused`."""
        if self.refused(now):
            return 0.0
        past_s = self._total_s if now - self._latest <= MEMORY_S else 0.0
        return past_s + (0.0 if self._since is None else now - self._since)

    def clear(self) -> None:
        self._total_s, self._since = 0.0, None

    def refuse(self, now: float) -> None:
        """The model could not be opened in another worker: no attempt for MEMORY_S."""
        self.clear()
        self._not_before = now + MEMORY_S

    def refused(self, now: float) -> bool:
        return now < self._not_before
