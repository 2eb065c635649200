"""Restart backoff of a process: consecutive failures, and the time of the next attempt. A pure record.

Invariant: the delay grows with each consecutive failure, until `reset`.
"""

DELAYS_S = (0.0, 0.1, 0.5, 1.0, 2.0, 5.0, 10.0)  # by the number of earlier consecutive failures


class Backoff:
    def __init__(self) -> None:
        self.failures = 0
        self.reason = ""
        self._until = 0.0

    def note(self, reason: str, now: float) -> None:
        self.reason = reason
        self._until = now + DELAYS_S[min(self.failures, len(DELAYS_S) - 1)]
        self.failures += 1

    def reset(self) -> None:
        self.failures = 0

    def wait_s(self, now: float) -> float:
        """Seconds until the next attempt is allowed."""
        return max(0.0, self._until - now)
