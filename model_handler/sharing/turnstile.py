"""Whose turn it is to compute: one thread at a time, in fair shares between brief work and long.

A generation passes here between two tokens, so that others get their share: short requests wait for a
decode step and not for a whole text; between two layers it lets brief work pass, so that they do not even
wait for a long prompt to be read. Always true: the holder is one thread; brief work is not overtaken by
other brief work; of the time in which all want to compute it gets three quarters beside two generations,
and these get equal parts of the rest, however long their steps are.
"""

import threading
import time
from collections import defaultdict, deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from enum import Enum

from model_handler.sharing.fairness import Shares

GENERATIONS = 2  # long computations that take turns, each of another model


class WorkKind(Enum):
    BRIEF = "one forward"
    LONG = "many forwards, one after the other"


_WEIGHTS = {WorkKind.BRIEF: 3.0 * GENERATIONS, WorkKind.LONG: 1.0}


class Turn:
    """One stay at the turnstile, in which others may be let through."""

    def __init__(self, kind: WorkKind, clock: Callable[[], float]) -> None:
        self.kind = kind
        self.key: WorkKind | Turn = kind if kind is WorkKind.BRIEF else self  # whose share it takes
        self._clock = clock
        self._go = threading.Lock()
        self._since = 0.0
        self._held_s = 0.0  # before that
        self._told_s = 0.0

    def lap(self) -> float:
        """Seconds of computing since the last lap, without the time in which others were let through."""
        held_s = self._held_s + self._clock() - self._since
        lap_s, self._told_s = held_s - self._told_s, held_s
        return lap_s

    # ---- the turnstile's side, under its guard ----

    def block(self) -> None:
        self._go = threading.Lock()
        self._go.acquire()

    def await_go(self) -> None:
        self._go.acquire()

    def begin(self) -> None:
        self._since = self._clock()

    def end(self) -> float:
        """Seconds since it began."""
        stretch_s = self._clock() - self._since
        self._held_s += stretch_s
        return stretch_s

    def go(self) -> None:
        self._go.release()


class Turnstile:
    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._guard = threading.Lock()  # of all below
        self._holder: Turn | None = None
        self._waiting: dict[WorkKind | Turn, deque[Turn]] = defaultdict(deque)
        self._shares: Shares[WorkKind | Turn] = Shares()

    def waiting(self) -> int:
        return sum(map(len, list(self._waiting.values())))

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
        """By the holder, who has more to do: let those go first whose turn it is."""
        if self.waiting():
            self._wait_again()

    def let_brief_pass(self) -> None:
        """By the holder: the same, for brief work alone."""
        if self._waiting[WorkKind.BRIEF]:
            self._wait_again()

    def _wait(self, turn: Turn) -> None:
        with self._guard:
            self._shares.enter(turn.key)
            self._stand_in_line(turn)
            if self._holder is None:
                self._hand_over()
        turn.await_go()

    def _wait_again(self) -> None:
        with self._guard:
            turn = self._holder
            assert turn is not None
            self._stand_in_line(turn)
            self._hand_over()
        turn.await_go()

    def _stand_in_line(self, turn: Turn) -> None:
        turn.block()
        self._waiting[turn.key].append(turn)

    def _hand_over(self) -> None:
        if (left := self._holder) is not None:
            self._shares.charge(left.key, left.end(), _WEIGHTS[left.kind])
            self._holder = None
        key = self._shares.next(lambda key: bool(self._waiting[key]))
        if key is not None:
            self._holder = self._waiting[key].popleft()
            self._holder.begin()
            self._holder.go()


class _Here(threading.local):
    turnstile: Turnstile | None = None


_here = _Here()


def pass_through(turnstile: Turnstile) -> None:
    """From now on this thread's computations give way at this turnstile."""
    _here.turnstile = turnstile


def give_way() -> None:
    """Called between two steps of something long; nothing happens on a thread that passes nowhere."""
    if _here.turnstile is not None:
        _here.turnstile.give_way()


def let_brief_pass() -> None:
    """Called more often than that."""
    if _here.turnstile is not None:
        _here.turnstile.let_brief_pass()
