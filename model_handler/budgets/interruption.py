"""End runs of native code at their deadline, from a thread that waits for the earliest one."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager


class Interruptions:
    """Calls the `stop` of each run that is still in progress at its deadline. Thread-safe."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._runs: dict[object, tuple[float, Callable[[], None]]] = {}
        self._wakes = 0.0  # time.monotonic() at which the thread looks next; 0: it is not started
        self._started = False

    @contextmanager
    def at(self, deadline: float, stop: Callable[[], None]) -> Iterator[None]:
        """`deadline` is on time.monotonic's clock. `stop` must only set a flag."""
        run = object()
        with self._changed:
            self._runs[run] = deadline, stop
            if not self._started:
                self._started = True
                threading.Thread(target=self._watch, name="deadlines", daemon=True).start()
            elif deadline < self._wakes:
                self._changed.notify()
        try:
            yield
        finally:
            with self._changed:
                del self._runs[run]

    def _watch(self) -> None:
        with self._changed:
            while True:
                now = time.monotonic()
                for run, (deadline, stop) in list(self._runs.items()):
                    if deadline <= now:
                        stop()
                        self._runs[run] = float("inf"), stop
                self._wakes = min(
                    (deadline for deadline, _ in self._runs.values()), default=float("inf")
                )
                wait_s = self._wakes - now
                self._changed.wait(None if wait_s == float("inf") else wait_s)
