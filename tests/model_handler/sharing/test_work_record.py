"""What the front knows of a process that ended by a fatal signal."""

import signal
import subprocess
import sys

import pytest

from model_handler.sharing.work_record import WorkRecord

PROGRAM = """
import ctypes, os, sys, threading
from model_handler.sharing import work_record
from model_handler.worker.threads import WorkerThread, at_work

@ctypes.CFUNCTYPE(None)
def deep():
    deep()

def overflow():
    sys.setrecursionlimit(10**9)
    deep()

ways = {"crash": lambda: ctypes.string_at(0), "abort": os.abort, "overflow": overflow,
        "exit": lambda: os._exit(3), "main": lambda: os.kill(os.getpid(), 11)}
work_record.attach(int(sys.argv[1]))
busy, guilty, both = WorkerThread("busy"), WorkerThread("guilty"), threading.Barrier(2)
busy.put(lambda: (at_work.cell.__setitem__(1, 7), both.wait(), threading.Event().wait()))
guilty.put(lambda: (at_work.cell.__setitem__(1, 8), both.wait(), ways[sys.argv[2]]()))
threading.Event().wait()
"""


@pytest.mark.parametrize(
    ("way", "status", "faulty"),
    [
        ("crash", -signal.SIGSEGV, 8),
        ("abort", -signal.SIGABRT, 8),
        ("overflow", -signal.SIGSEGV, 8),
        ("exit", 3, None),
    ],
)
def test_the_thread_that_failed(way: str, status: int, faulty: int | None) -> None:
    record = WorkRecord()
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(record.fd), way],
        pass_fds=[record.fd],
        timeout=60,
        check=False,
    )
    work = record.read()
    record.close()
    record.close()
    assert done.returncode == status
    assert (set(work.models), work.faulty) == ({7, 8}, faulty)
    assert (work.trace != "") is (faulty is not None)


def test_a_record_that_was_not_written() -> None:
    record = WorkRecord()
    assert record.read().models == frozenset()
    assert record.read().faulty is None
    record.close()
