"""The number of threads for one forward on a CPU, and for tokenizing.

A second thread speeds up a 25 ms forward 1.49× (measured on two cores) and slows down a 3 ms forward: the
two threads wait for each other at every layer, and the front process and the tokenizers need a core most
while forwards are short.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager

import torch

THREAD_S = 0.005  # work per thread that outweighs the cost of the thread
HEAVY_S = 0.020  # work from which a forward gets all cores, including the front's
TAKEN_CORES = 2  # with a GPU: one for the front, one for the thread that launches kernels
READ_NBYTES_PER_S = 10e9  # memory bandwidth of one core


def first_work_s(nbytes: int) -> float:
    """Least time of a model's first forward on one thread, in seconds: the time to read its weights."""
    return nbytes / READ_NBYTES_PER_S


def tokenizing(device: torch.device, cores: int) -> int:
    """Threads that tokenize a batch: one if the CPU computes the forwards, otherwise all free cores."""
    return 1 if device.type == "cpu" else max(1, cores - TAKEN_CORES)


def tokenize_with(count: int) -> None:
    """Set the number of tokenizer threads of this process and its children. Call before the first text."""
    os.environ["TOKENIZERS_PARALLELISM"] = "true" if count > 1 else "false"
    if count > 1:
        os.environ.setdefault("RAYON_NUM_THREADS", str(count))


class Threads:
    """Sets PyTorch's thread count per forward. `cores` 0: a GPU computes, and nothing is changed."""

    def __init__(self, cores: int) -> None:
        self._cores = cores
        self._usual = self.many(HEAVY_S - THREAD_S)
        if cores:
            torch.set_num_threads(self._usual)

    @classmethod
    def of(cls, device: torch.device) -> "Threads":
        return cls(len(os.sched_getaffinity(0)) if device.type == "cpu" else 0)

    def many(self, work_s: float) -> int:
        """Threads for a forward. `work_s`: the time that a single thread would need."""
        if work_s >= HEAVY_S:
            return self._cores
        return max(1, min(self._cores - 1, int(work_s / THREAD_S)))

    @contextmanager
    def computing(self, work_s: float) -> Iterator[int]:
        """Set the thread count of the calling thread for the block. Yields the count."""
        count = self.many(work_s) if self._cores else 1
        if not self._cores or count == self._usual:
            yield count
            return
        torch.set_num_threads(count)
        try:
            yield count
        finally:
            torch.set_num_threads(self._usual)
