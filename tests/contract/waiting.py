"""Waiting for conditions in other processes, and running calls at the same time."""

import contextlib
import select
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

STEP_S = 0.01
T = TypeVar("T")


def until(condition: Callable[[], T], *, within_s: float = 15.0) -> T:
    """Wait until the condition returns a true value, and return it. Fails after the time limit."""
    deadline = time.monotonic() + within_s
    while not (found := condition()):
        assert time.monotonic() < deadline, f"did not happen within {within_s} s"
        select.select([], [], [], STEP_S)
    return found


def together(calls: Sequence[Callable[[], T]]) -> list[T]:
    """Run all calls at the same time, each in its own thread. Returns their results in order."""
    start = threading.Barrier(len(calls))

    def run(call: Callable[[], T]) -> T:
        start.wait()
        return call()

    with ThreadPoolExecutor(len(calls)) as pool:
        return list(pool.map(run, calls))


@contextlib.contextmanager
def background(call: Callable[[], T]) -> Iterator[Future[T]]:
    """Run the call in a thread during the block, and wait for it at the end of the block."""
    with ThreadPoolExecutor(1) as pool:
        yield pool.submit(call)
