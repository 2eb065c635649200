"""Which model each thread of a device worker works for, in memory that the front reads after its end.

The front creates the memory and sends its descriptor with the order to fork. Each thread of the worker has a
cell of two numbers there: its identifier, and the model_id it works for, 0 for none. Behind the cells,
`faulthandler` writes which thread caused the fatal signal that ended the process.
"""

import ctypes
import faulthandler
import fcntl
import itertools
import mmap
import os
import re
import struct
import threading
from contextlib import suppress
from typing import NamedTuple

CELL = struct.Struct("=Qq")
MODEL = 1  # index of the model_id in a cell
CELLS = 32
NBYTES = 64 << 10  # whole pages: cells, then what faulthandler writes
CELLS_NBYTES = CELL.size * CELLS
SEALS = fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW
SIGNAL_STACK_NBYTES = 64 << 10
CURRENT = re.compile(rb"^Current thread 0x([0-9a-f]+)", re.MULTILINE)


class WorkInProgress(NamedTuple):
    """`models`: the model_ids at work. `faulty`: that of the thread which caused the fatal signal; 0 if it
    worked for none, None if it is not known. `trace`: its Python stack, if known."""

    models: frozenset[int] = frozenset()
    faulty: int | None = None
    trace: str = ""


class WorkRecord:
    """The front's side. `fd`: for the worker; the front keeps it until `close`."""

    def __init__(self) -> None:
        self.fd = os.memfd_create("mme-work", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        os.ftruncate(self.fd, NBYTES)
        fcntl.fcntl(self.fd, fcntl.F_ADD_SEALS, SEALS)

    def read(self) -> WorkInProgress:
        """What was at work when the worker ended; what is at work, while it runs."""
        content = os.pread(self.fd, NBYTES, 0)
        cells = dict(CELL.iter_unpack(content[:CELLS_NBYTES]))
        models = frozenset(cells.values()) - {0}
        text = content[CELLS_NBYTES:].rstrip(b"\0")
        if (current := CURRENT.search(text)) is None:
            return WorkInProgress(models)
        trace, _, _ = text[current.start() :].partition(b"\n\n")
        return WorkInProgress(
            models, cells.get(int(current[1], 16)), trace.decode("utf-8", "replace")
        )

    def close(self) -> None:
        """Has no effect the second time."""
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1


# The worker's side. Until `attach` nobody reads the cells.
_cells = memoryview(bytearray(CELLS_NBYTES)).cast("Q")
_numbers = itertools.count()


def attach(fd: int) -> None:
    """Let this process record its work where the front reads it, and the Python stacks when a fatal signal
    ends it. Before its first thread calls `join`."""
    global _cells
    _cells = memoryview(mmap.mmap(fd, NBYTES))[:CELLS_NBYTES].cast("Q")
    os.lseek(fd, CELLS_NBYTES, os.SEEK_SET)
    faulthandler.enable(fd, all_threads=True)
    join()  # this thread works for no model


def join() -> memoryview:
    """A cell for the calling thread: item MODEL is the model_id. Threads beyond CELLS share the last one."""
    _use_signal_stack()
    start = 2 * min(next(_numbers), CELLS - 1)
    cell = _cells[start : start + 2]
    cell[0] = threading.get_ident()
    return cell


class _SignalStack(ctypes.Structure):
    """stack_t of signal.h."""

    _fields_ = (("pointer", ctypes.c_void_p), ("flags", ctypes.c_int), ("size", ctypes.c_size_t))


_signal_stacks = threading.local()


def _use_signal_stack() -> None:
    """Let the calling thread report a fatal signal also when its own stack is full."""
    with suppress(OSError, AttributeError):
        memory = ctypes.create_string_buffer(SIGNAL_STACK_NBYTES)
        stack = _SignalStack(ctypes.addressof(memory), 0, SIGNAL_STACK_NBYTES)
        ctypes.CDLL(None).sigaltstack(ctypes.byref(stack), None)
        _signal_stacks.memory = memory  # as long as the thread
