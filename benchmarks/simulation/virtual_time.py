"""An event loop whose clock is virtual: when nothing is ready, it jumps to the next timer.

Invariant: time passes only while all tasks wait. Sockets, threads and child processes are not supported.
"""

import asyncio
import selectors
from collections.abc import Coroutine
from typing import Any, TypeVar

Result = TypeVar("Result")


class Stalled(Exception):
    """No timer is set and no callback is ready, so that nothing would ever happen."""


class VirtualClock(selectors.SelectSelector):
    """The loop's selector: instead of waiting for sockets it sets the clock forward."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        if timeout is None:
            raise Stalled("all tasks wait, and no timer is set")
        self.now += max(0.0, timeout)
        return []


class VirtualLoop(asyncio.SelectorEventLoop):
    def __init__(self) -> None:
        self._virtual = VirtualClock()
        super().__init__(self._virtual)

    def time(self) -> float:
        return self._virtual.now


def run(work: Coroutine[Any, Any, Result]) -> Result:
    """The coroutine's result, in virtual time from 0."""
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        return runner.run(work)
