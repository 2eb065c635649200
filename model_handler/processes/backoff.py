"""Restart backoff of a process: consecutive crashes, and the time of the next attempt. A pure record.

Invariant: the delay grows with each consecutive crash, and an answer resets it.
"""

PAUSES_S = (0.0, 0.0, 0.2, 1.0, 5.0, 15.0, 30.0)  # by the number of consecutive crashes


class Backoff:
    def __init__(self) -> None:
        self.count = 0
        self.reason = ""
        self._until = 0.0

    def note(self, reason: str, now: float) -> None:
        self.reason = reason
        self._until = now + PAUSES_S[min(self.count, len(PAUSES_S) - 1)]
        self.count += 1

    def forgive(self) -> None:
        self.count = 0

    def wait_s(self, now: float) -> float:
        """Seconds until the next attempt is allowed."""
        return max(0.0, self._until - now)
