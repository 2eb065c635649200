"""For how long a function keeps other threads of the process from running."""

import itertools
import math
import threading
import time
from collections.abc import Callable

PAUSE_S = 0.001
ATTEMPTS = 3


def held_s(work: Callable[[], object], limit_s: float) -> float:
    """The most CPU time that the calling thread used between two moments at which another thread ran. Tried
    again above the limit, because a busy machine may keep that thread waiting too."""
    held = math.inf
    for _ in range(ATTEMPTS):
        held = min(held, _measured(work))
        if held < limit_s:
            break
    return held


def _measured(work: Callable[[], object]) -> float:
    clock = time.pthread_getcpuclockid(threading.get_ident())
    over = threading.Event()
    seen = [time.clock_gettime(clock)]

    def watch() -> None:
        while not over.wait(PAUSE_S):
            seen.append(time.clock_gettime(clock))

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        work()
    finally:
        over.set()
        thread.join()
    seen.append(time.clock_gettime(clock))
    return max(after - before for before, after in itertools.pairwise(seen))
