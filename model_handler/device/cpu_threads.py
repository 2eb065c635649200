"""How many threads compute one forward on a CPU, and how many tokenize.

A second thread makes a forward of 25 ms half as long again (measured on two cores: 1.49 times the
throughput) and one of 3 ms longer, since it waits for the other at every layer, and since the front
process and the tokenizers need a core most while forwards are short.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager

import torch

THREAD_S = 0.005  # of work that pays for a thread
HEAVY_S = 0.020  # from here on the front can wait
TAKEN_CORES = 2  # beside a GPU: by the front, and by the thread that launches kernels
READ_NBYTES_PER_S = 10e9  # of memory, by one core


def first_work_s(nbytes: int) -> float:
    """What a model's first forward will take one thread at least: it reads the weights."""
    return nbytes / READ_NBYTES_PER_S


def tokenizing(device: torch.device, cores: int) -> int:
    """Threads for a batch of texts: one where the cores compute forwards, else those that are left."""
    return 1 if device.type == "cpu" else max(1, cores - TAKEN_CORES)


def tokenize_with(count: int) -> None:
    """Settles it for this process and those it starts, before its first text."""
    os.environ["TOKENIZERS_PARALLELISM"] = "true" if count > 1 else "false"
    if count > 1:
        os.environ.setdefault("RAYON_NUM_THREADS", str(count))


class Threads:
    """`cores` 0: the device computes elsewhere, and nothing is changed."""

    def __init__(self, cores: int) -> None:
        self._cores = cores
        self._usual = self.many(HEAVY_S - THREAD_S)
        if cores:
            torch.set_num_threads(self._usual)

    @classmethod
    def of(cls, device: torch.device) -> "Threads":
        return cls(len(os.sched_getaffinity(0)) if device.type == "cpu" else 0)

    def many(self, work_s: float) -> int:
        """`work_s`: how long one thread alone would need."""
        if work_s >= HEAVY_S:
            return self._cores
        return max(1, min(self._cores - 1, int(work_s / THREAD_S)))

    @contextmanager
    def computing(self, work_s: float) -> Iterator[int]:
        """For the block, on this thread. Yields how many there are."""
        count = self.many(work_s) if self._cores else 1
        if not self._cores or count == self._usual:
            yield count
            return
        torch.set_num_threads(count)
        try:
            yield count
        finally:
            torch.set_num_threads(self._usual)
