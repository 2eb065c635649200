"""Memory that an isolated process holds: its private main memory, and its memory on a GPU.

Invariant: the measurement after every request takes microseconds.
"""

import resource
from pathlib import Path

import torch

from model_handler.memory.pools import Footprint

PAGE_NBYTES = resource.getpagesize()
WORTH_COUNTING_NBYTES = 16 << 20


class HeldMemory:
    """Measures the memory of this process.

    `context_nbytes`: GPU memory that a process uses besides its tensors, once CUDA is initialized.
    `alone`: the process serves one model only.
    """

    def __init__(self, device: str, context_nbytes: int, *, alone: bool) -> None:
        self._device = device
        self._gpu = device.startswith("cuda")
        self._context_nbytes = context_nbytes
        self.alone = alone
        self._counted = Footprint(0)  # memory of the process at the last load or unload
        self._anonymous_at_load = 0

    def loaded(self) -> Footprint:
        """Growth since the last load or unload; for the first load, since the fork."""
        before, self._counted = self._counted, self._exact()
        self._anonymous_at_load = anonymous_nbytes()
        nbytes = self._counted.nbytes - before.nbytes
        return Footprint(max(0, nbytes), max(0, self._counted.main_nbytes - before.main_nbytes))

    def unloaded(self) -> None:
        if self._started():
            torch.cuda.empty_cache()
        self._counted = self._exact()

    def now(self) -> Footprint:
        """Memory of the only model of this process: its memory after the load, and the growth since then.

        0 if several models share the process, since the growth cannot be assigned to one of them.
        """
        if not self.alone:
            return Footprint(0)
        grown = anonymous_nbytes() - self._anonymous_at_load
        if self._gpu:
            return Footprint(self._on_gpu(), max(0, self._counted.main_nbytes + grown))
        return Footprint(max(0, self._counted.nbytes + grown))

    def _exact(self) -> Footprint:
        private = private_nbytes()
        return Footprint(self._on_gpu(), private) if self._gpu else Footprint(private)

    def _on_gpu(self) -> int:
        """GPU memory allocated to this process, including the allocator's unused blocks."""
        if not self._started():
            return 0
        return self._context_nbytes + torch.cuda.memory_reserved(torch.device(self._device))

    def _started(self) -> bool:
        """True if this process uses CUDA. The measurement itself never initializes CUDA."""
        return self._gpu and bool(torch.cuda.is_initialized())  # type: ignore[no-untyped-call]


def private_nbytes() -> int:
    """Memory written by this process and not shared: the memory that its end would free.

    For the exact number, the kernel visits every page shared with the fork server, which takes longer than
    loading a small model. For a process with few page faults, their number is a sufficient estimate.
    """
    faulted = resource.getrusage(resource.RUSAGE_SELF).ru_minflt * PAGE_NBYTES
    if faulted < WORTH_COUNTING_NBYTES:
        return faulted
    for line in Path("/proc/self/smaps_rollup").read_text().splitlines():
        if line.startswith("Private_Dirty:"):
            return int(line.split()[1]) * 1024
    return faulted


def anonymous_nbytes() -> int:
    """Anonymous memory, cheap enough to read after every request; includes pages shared with the fork
    server."""
    _, resident_pages, shared_pages, *_ = Path("/proc/self/statm").read_text().split()
    return (int(resident_pages) - int(shared_pages)) * PAGE_NBYTES
