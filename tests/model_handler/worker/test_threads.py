"""A worker thread that fails ends its process, since callers would wait forever for a dead thread."""

import os
import subprocess
import sys
import threading
from concurrent.futures import Future

from model_handler.worker.threads import WorkerThread

PROGRAM = """
import threading
from model_handler.worker.threads import WorkerThread
WorkerThread("broken").put(lambda: 1 / 0)
threading.Event().wait()
"""


def test_a_task_that_raises() -> None:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], timeout=60, capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert "ZeroDivisionError" in done.stderr


def niceness(thread: WorkerThread) -> int:
    found: Future[int] = Future()
    me = threading.get_native_id
    thread.put(lambda: found.set_result(os.getpriority(os.PRIO_PROCESS, me())))
    return found.result(10)


def test_the_priority_is_that_of_one_thread() -> None:
    usual = os.getpriority(os.PRIO_PROCESS, 0)
    assert niceness(WorkerThread("background", niceness=3)) == min(usual + 3, 19)
    assert niceness(WorkerThread("plain")) == usual
    assert os.getpriority(os.PRIO_PROCESS, 0) == usual
