"""Waiting for what happens in another process, and making things happen at the same time."""

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
    """What the condition returned once that is true; fails when it does not come true in time."""
    deadline = time.monotonic() + within_s
    while not (found := condition()):
        assert time.monotonic() < deadline, f"did not happen within {within_s} s"
        select.select([], [], [], STEP_S)
    return found


def together(calls: Sequence[Callable[[], T]]) -> list[T]:
    """Run all calls at the same time, each in a thread of its own; their results in order."""
    start = threading.Barrier(len(calls))

    def run(call: Callable[[], T]) -> T:
        start.wait()
        return call()

    with ThreadPoolExecutor(len(calls)) as pool:
        return list(pool.map(run, calls))


@contextlib.contextmanager
def background(call: Callable[[], T]) -> Iterator[Future[T]]:
    """The call running in a thread while the block runs; it has ended when the block is left."""
    with ThreadPoolExecutor(1) as pool:
        yield pool.submit(call)
