"""Fair queueing by measured time: the key with the least device time per weight runs next.

Start-time fair queueing (Goyal, Vin, Cheng: "Start-time Fair Queuing", SIGCOMM 1996) with costs that
are known only after a turn: a caller may charge an estimate first and correct it when the turn ends.
Invariant: between two keys that can both run at all times, the device time per weight differs by at most
the longest turn of each. Time in which a key cannot run gives it at most one early turn.
"""

import math
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

Key = TypeVar("Key", bound=Hashable)


class Shares(Generic[Key]):
    """The device time of every key.

    `inside`: the keys that have work, those that entered or ran the longest ago first; read only.
    A key that returns before it has fallen behind the others keeps its charge; a key that returns later
    starts level with the others.
    """

    def __init__(self) -> None:
        self._now = 0.0  # virtual time: start of the latest turn, in seconds per weight
        self._had: dict[Key, float] = {}
        self.inside: dict[Key, None] = {}

    def enter(self, key: Key) -> None:
        self.inside.setdefault(key, None)

    def leave(self, key: Key) -> None:
        self.inside.pop(key, None)
        if not self.inside and self._had:  # idle: all keys start level, at the highest charge
            self._now = max(self._now, *self._had.values())
            self._had.clear()

    def forget(self, key: Key) -> None:
        """Remove a key that will not return, and its charge."""
        self.leave(key)
        self._had.pop(key, None)

    def next(self, can_run: Callable[[Key], bool]) -> Key | None:
        """The runnable key with the least device time per weight; among equals, the one that entered or ran
        the longest ago."""
        chosen, earliest = None, math.inf
        for key in self.inside:
            start = max(self._had.get(key, 0.0), self._now)
            if start < earliest and can_run(key):
                chosen, earliest = key, start
        if chosen is not None:
            self._now = self._had[chosen] = earliest
            del self.inside[chosen]
            self.inside[chosen] = None
        return chosen

    def charge(self, key: Key, seconds: float, weight: float = 1.0) -> None:
        """Add device time to a key. Negative `seconds` correct an earlier estimate."""
        self._had[key] = self._had.get(key, self._now) + seconds / weight
