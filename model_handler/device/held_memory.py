"""Memory that an isolated process holds: main memory, private or shared, and memory on a GPU.

The memory of processes that it started counts too. Invariant: without such processes, the measurement after
every request takes about 0.1 ms.
"""

import logging
import os
import resource
import signal
import threading
import time
from contextlib import suppress
from pathlib import Path

import torch

from model_handler.device.shared_memory import beside_nbytes
from model_handler.memory.pools import Footprint

PAGE_NBYTES = resource.getpagesize()
WORTH_COUNTING_NBYTES = 16 << 20
WATCH_S = 0.5
log = logging.getLogger(__name__)


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
        self._main_at_load = 0

    def loaded(self) -> Footprint:
        """Growth since the last load or unload; for the first load, since the fork."""
        before, self._counted = self._counted, self._exact()
        self._main_at_load = _main_nbytes()
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
        grown = _main_nbytes() - self._main_at_load
        if self._gpu:
            return Footprint(self._on_gpu(), max(0, self._counted.main_nbytes + grown))
        return Footprint(max(0, self._counted.nbytes + grown))

    def _exact(self) -> Footprint:
        main = private_nbytes() + beside_nbytes()
        return Footprint(self._on_gpu(), main) if self._gpu else Footprint(main)

    def _on_gpu(self) -> int:
        """GPU memory allocated to this process, including the allocator's unused blocks."""
        if not self._started():
            return 0
        return self._context_nbytes + torch.cuda.memory_reserved(torch.device(self._device))

    def _started(self) -> bool:
        """True if this process uses CUDA. The measurement itself never initializes CUDA."""
        return self._gpu and bool(torch.cuda.is_initialized())  # type: ignore[no-untyped-call]


def _main_nbytes() -> int:
    return anonymous_nbytes() + beside_nbytes()


def end_beyond(nbytes: int) -> None:
    """End this process, as the kernel does, once its code holds more than `nbytes` more than now.

    Starts a thread. A resource limit does not cover shared memory and memory of further processes.
    """
    start = _main_nbytes()

    def watch() -> None:
        grown = 0
        while grown <= nbytes:
            time.sleep(WATCH_S)
            with suppress(MemoryError, OSError):  # its code has taken all memory or descriptors
                grown = _main_nbytes() - start
        log.critical("memory limit exceeded", extra={"held_nbytes": grown, "limit_nbytes": nbytes})
        os.kill(os.getpid(), signal.SIGKILL)

    threading.Thread(target=watch, name="memory", daemon=True).start()


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
