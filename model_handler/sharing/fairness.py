"""Fair queueing by measured time: whoever had the least of the device, for its weight, goes next.

Start-time fair queueing (Goyal, Vin, Cheng: "Start-time Fair Queuing", SIGCOMM 1996) with costs that
are known only afterwards: a turn is charged what it is expected to cost, and corrected once it is over.
Always true: between two keys that both could run all the time, the device time per weight differs by no
more than the longest turn of each; time in which a key could not run earns it one early turn, not many.
"""

from collections.abc import Callable, Hashable, Iterator
from typing import Generic, TypeVar

Key = TypeVar("Key", bound=Hashable)


class Shares(Generic[Key]):
    """Keys are in while they have work. One that comes back soon is remembered, one that stays away
    starts where the others are."""

    def __init__(self) -> None:
        self._now = 0.0  # of the turn that began last, in seconds per weight
        self._had: dict[Key, float] = {}
        self._inside: dict[Key, None] = {}

    def __contains__(self, key: Key) -> bool:
        return key in self._inside

    def __iter__(self) -> Iterator[Key]:
        return iter(self._inside)

    def enter(self, key: Key) -> None:
        self._inside.setdefault(key, None)

    def leave(self, key: Key) -> None:
        self._inside.pop(key, None)
        if not self._inside and self._had:  # idle: all start anew, from where the furthest had come
            self._now = max(self._now, *self._had.values())
            self._had.clear()

    def forget(self, key: Key) -> None:
        """The key will not come back."""
        self.leave(key)
        self._had.pop(key, None)

    def next(self, can_run: Callable[[Key], bool]) -> Key | None:
        """Of those that can run the one that had least, and of equals the one that came or ran first."""
        able = (key for key in self._inside if can_run(key))
        chosen = min(able, key=self._start, default=None)
        if chosen is not None:
            self._now = self._start(chosen)
            self._had[chosen] = self._now
            del self._inside[chosen]
            self._inside[chosen] = None
        return chosen

    def charge(self, key: Key, seconds: float, weight: float = 1.0) -> None:
        """`seconds` may be negative, to correct what was charged before."""
        self._had[key] = self._had.get(key, self._now) + seconds / weight

    def _start(self, key: Key) -> float:
        return max(self._had.get(key, 0.0), self._now)
