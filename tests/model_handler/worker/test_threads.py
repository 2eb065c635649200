"""A worker thread that fails ends its process, since callers would wait forever for a dead thread."""

import subprocess
import sys

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
