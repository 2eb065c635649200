"""How often in a row a model's own process has died, and how long to leave it alone. A pure record.

Always true: one that answers again starts with a clean sheet; one that keeps dying costs ever less.
"""

PAUSES_S = (0.0, 0.0, 0.2, 1.0, 5.0, 15.0, 30.0)  # after the n-th death in a row


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
        """Seconds until the next attempt makes sense."""
        return max(0.0, self._until - now)
