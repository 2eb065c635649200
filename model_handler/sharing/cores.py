"""CPU cores: how many this container has, how many workers they are for, and the threads of each forward."""

import math
import os
from pathlib import Path

THREAD_S = 0.005  # work per CPU thread that outweighs the cost of the thread
NARROW_S = 2 * THREAD_S  # work below which a forward gets one thread
HEAVY_S = 0.020  # work from which a forward may get all cores, including the front's
READ_NBYTES_PER_S = 10e9  # memory bandwidth of one core
CGROUP_QUOTA = "sys/fs/cgroup/cpu.max"
CGROUP_V1 = "sys/fs/cgroup/cpu/cpu.cfs_quota_us", "sys/fs/cgroup/cpu/cpu.cfs_period_us"
MOST_POOL_THREADS = 3
PARALLEL = (
    0.66  # share of a forward that threads divide among them: two are 1.49 times as fast as one
)


def available(root: Path = Path("/")) -> int:
    """Cores that this process may use: its affinity, limited by the quota of its cgroup (v2, then v1)."""
    usable = min(len(os.sched_getaffinity(0)), _quota_v2(root), _quota_v1(root))
    return max(1, int(usable))


def _quota_v2(root: Path) -> float:
    quota, _, period = _read(root / CGROUP_QUOTA).partition(" ")
    return int(quota) / int(period) if quota.isdecimal() and period.isdecimal() else math.inf


def _quota_v1(root: Path) -> float:
    quota, period = (_read(root / name) for name in CGROUP_V1)
    return int(quota) / int(period) if quota.isdecimal() and period.isdecimal() else math.inf


def _read(file: Path) -> str:
    return file.read_text().strip() if file.is_file() else ""


def workers(cores: int) -> int:
    """The default number of device workers on a CPU.

    Simulated with 4 to 36 cores, fewer workers, to leave cores to the front, served fewer requests in most
    settings: the operating system gives the front a core when it has work (docs/sizing.md).
    """
    return cores


def pool_threads(cores: int, workers: int) -> int:
    """Threads of ONNX Runtime's pool in each worker."""
    return max(1, min(MOST_POOL_THREADS, (cores - 1) // workers))


def first_work_s(nbytes: int) -> float:
    """Least time of a model's first forward on one thread, in seconds: the time to read its weights."""
    return nbytes / READ_NBYTES_PER_S


def speedup(threads: int) -> float:
    """How many times as fast a forward is with several threads, by Amdahl's law from what two threads reach.

    A lower bound for large matrices: an estimate that is too high would let each forward ask for more threads
    than the one before.
    """
    return 1 / (1 - PARALLEL + PARALLEL / threads)


def wanted(work_s: float, cores: int) -> int:
    """Threads for a forward that takes one thread `work_s` seconds.

    A second thread speeds up a 25 ms forward 1.49× (measured on two cores) and slows down a 3 ms forward: the
    two threads wait for each other at every layer, and the front process and the tokenizers need a core most
    while forwards are short.
    """
    most = cores if work_s >= HEAVY_S else cores - 1
    return max(1, min(most, int(work_s / THREAD_S)))
