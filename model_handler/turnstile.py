"""Whose turn it is to compute: one thread at a time, first come, first served.

A generation passes here between two tokens, so that whoever came meanwhile goes first: short requests
wait for a decode step and not for a whole text. Always true: the holder is one thread, and nobody is
overtaken.
"""

import threading
from collections import deque
from types import TracebackType
from typing import Self


class Turnstile:
    def __init__(self) -> None:
        self._guard = threading.Lock()  # of the two below
        self._held = False
        self._waiting: deque[threading.Lock] = deque()

    def __enter__(self) -> Self:
        with self._guard:
            if not self._held:
                self._held = True
                return self
            turn = threading.Lock()
            turn.acquire()
            self._waiting.append(turn)
        turn.acquire()  # released by whoever leaves, who hands over without letting go
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        tb: TracebackType | None,
    ) -> None:
        with self._guard:
            if self._waiting:
                self._waiting.popleft().release()
            else:
                self._held = False

    def give_way(self) -> None:
        """By the holder: let those who wait go first."""
        if self._waiting:
            self.__exit__(None, None, None)
            self.__enter__()


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
