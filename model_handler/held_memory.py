"""What a process with code of its own holds: main memory written by it alone, and its part of a GPU.

Invariant: what is asked after every request costs microseconds.
"""

import resource
from pathlib import Path

import torch

from model_handler.memory import Footprint

PAGE_NBYTES = resource.getpagesize()
WORTH_COUNTING_NBYTES = 16 << 20


class HeldMemory:
    """`context_nbytes`: what a process takes of the GPU by itself, once it has used it. `alone`: the
    process is for one model."""

    def __init__(self, device: str, context_nbytes: int, *, alone: bool) -> None:
        self._device = device
        self._gpu = device.startswith("cuda")
        self._context_nbytes = context_nbytes
        self.alone = alone
        self._counted = Footprint(0)  # in what the models loaded until now were said to hold
        self._anonymous_at_load = 0

    def loaded(self) -> Footprint:
        """What came since the load before; since the fork, for the first."""
        before, self._counted = self._counted, self._exact()
        self._anonymous_at_load = anonymous_nbytes()
        nbytes, main_nbytes = (max(0, a - b) for a, b in zip(self._counted, before, strict=True))
        return Footprint(nbytes, main_nbytes)

    def unloaded(self) -> None:
        if self._started():
            torch.cuda.empty_cache()
        self._counted = self._exact()

    def now(self) -> Footprint:
        """What the one model of this process holds: what it held after its load, and what came since.

        Nothing where several models share the process: it cannot be said whose it is.
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
        """What the driver has given to this process: also what its allocator keeps for later."""
        if not self._started():
            return 0
        return self._context_nbytes + torch.cuda.memory_reserved(torch.device(self._device))

    def _started(self) -> bool:
        """Nothing here starts CUDA in a process that does not use it."""
        return self._gpu and bool(torch.cuda.is_initialized())  # type: ignore[no-untyped-call]


def private_nbytes() -> int:
    """Written by this process and shared with nobody: what would come back if it ended.

    For the exact figure the kernel visits every page that is shared with the fork server, which takes
    longer than a small model's load. Of a process that hardly wrote, the faults say enough.
    """
    faulted = resource.getrusage(resource.RUSAGE_SELF).ru_minflt * PAGE_NBYTES
    if faulted < WORTH_COUNTING_NBYTES:
        return faulted
    for line in Path("/proc/self/smaps_rollup").read_text().splitlines():
        if line.startswith("Private_Dirty:"):
            return int(line.split()[1]) * 1024
    return faulted


def anonymous_nbytes() -> int:
    """Cheap enough to be asked after every request; counts pages shared with the fork server too."""
    _, resident, shared, *_ = Path("/proc/self/statm").read_text().split()
    return (int(resident) - int(shared)) * PAGE_NBYTES
