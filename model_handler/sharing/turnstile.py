"""Turns to compute: one thread at a time, in fair shares between brief and long work.

This avoids head-of-line blocking behind generations. A generation gives way between two tokens, so that
short requests wait for a decode step and not for a whole text. Between two layers it lets brief work pass,
so that short requests do not wait for the prefill of a long prompt either.

Invariants: one thread holds the turn; brief work is first in, first out. While brief work and two
generations all have work, brief work gets three quarters of the time and each generation gets half of the
rest, regardless of how long their steps are.
"""

import threading
import time
from collections import defaultdict, deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from enum import Enum

from model_handler.sharing.fairness import Shares

GENERATIONS = 2  # long computations that take turns


class WorkKind(Enum):
    BRIEF = "one forward"
    LONG = "many forwards, one after the other"


_WEIGHTS = {WorkKind.BRIEF: 3.0 * GENERATIONS, WorkKind.LONG: 1.0}


class Turn:
    """One computation from start to end, during which others may be let through."""

    def __init__(self, kind: WorkKind, clock: Callable[[], float]) -> None:
        self.kind = kind
        self.key: WorkKind | Turn = kind if kind is WorkKind.BRIEF else self  # key in Shares
        self.go = threading.Lock()  # released by Turnstile when the turn begins
        self._clock = clock
        self._since = 0.0
        self._held_s = 0.0  # before `_since`
        self._reported_s = 0.0  # up to the last lap

    def lap(self) -> float:
        """Seconds of computing since the last lap, excluding the time in which others were let through."""
        held_s = self._held_s + self._clock() - self._since
        lap_s, self._reported_s = held_s - self._reported_s, held_s
        return lap_s

    # ---- called by Turnstile under its guard ----

    def begin(self) -> None:
        self._since = self._clock()
        self.go.release()

    def end(self) -> float:
        """Seconds since `begin`."""
        stretch_s = self._clock() - self._since
        self._held_s += stretch_s
        return stretch_s


class Turnstile:
    """Grants the turn to one thread at a time."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._guard = threading.Lock()  # protects the attributes below
        self._holder: Turn | None = None
        self._waiting: dict[WorkKind | Turn, deque[Turn]] = defaultdict(deque)
        self._shares: Shares[WorkKind | Turn] = Shares()

    def waiting(self) -> int:
        return sum(map(len, list(self._waiting.values())))

    @property
    def free(self) -> bool:
        """Whether a turn would begin at once. Another thread may take one meanwhile."""
        return self._holder is None

    @contextmanager
    def turn(self, kind: WorkKind) -> Iterator[Turn]:
        turn = Turn(kind, self._clock)
        self._wait(turn)
        try:
            yield turn
        finally:
            with self._guard:
                self._hand_over()
                if turn.key is turn:
                    self._shares.forget(turn)
                    del self._waiting[turn]

    def give_way(self) -> None:
        """Let waiting threads compute if their share is due. Called by the holder before its next step."""
        if self.waiting():
            self._wait_again()

    def let_brief_pass(self) -> None:
        """As `give_way`, but only if brief work is waiting."""
        if self._waiting[WorkKind.BRIEF]:
            self._wait_again()

    def _wait(self, turn: Turn) -> None:
        with self._guard:
            self._shares.enter(turn.key)
            self._enqueue(turn)
            if self._holder is None:
                self._hand_over()
        turn.go.acquire()

    def _wait_again(self) -> None:
        with self._guard:
            turn = self._holder
            assert turn is not None
            self._enqueue(turn)
            self._hand_over()
        turn.go.acquire()

    def _enqueue(self, turn: Turn) -> None:
        turn.go = threading.Lock()
        turn.go.acquire()
        self._waiting[turn.key].append(turn)

    def _hand_over(self) -> None:
        if (left := self._holder) is not None:
            self._shares.charge(left.key, left.end(), _WEIGHTS[left.kind])
            self._holder = None
        key = self._shares.next(lambda key: bool(self._waiting[key]))
        if key is not None:
            self._holder = self._waiting[key].popleft()
            self._holder.begin()


class _ThreadLocal(threading.local):
    turnstile: Turnstile | None = None


_local = _ThreadLocal()


def pass_through(turnstile: Turnstile) -> None:
    """Make `give_way` and `let_brief_pass` of the calling thread use this turnstile from now on."""
    _local.turnstile = turnstile


def give_way() -> None:
    """Called between two steps of a long computation; does nothing on a thread without a turnstile."""
    if _local.turnstile is not None:
        _local.turnstile.give_way()


def let_brief_pass() -> None:
    """Called within a step of a long computation, for example between two layers."""
    if _local.turnstile is not None:
        _local.turnstile.let_brief_pass()
