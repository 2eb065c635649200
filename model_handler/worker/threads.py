"""Threads of a worker, each for one kind of task."""

import logging
import os
import queue
import threading
from collections.abc import Callable

log = logging.getLogger(__name__)
Task = Callable[[], object]


class WorkerThread(threading.Thread):
    """A thread that runs the tasks of a queue in order. Several threads may share one queue.

    `niceness`: how much lower its scheduling priority is than that of the process.
    """

    def __init__(
        self, name: str, tasks: "queue.SimpleQueue[Task] | None" = None, *, niceness: int = 0
    ) -> None:
        super().__init__(name=name, daemon=True)
        self._niceness = niceness
        self._tasks = tasks or queue.SimpleQueue()
        self.put = self._tasks.put
        self.start()

    def join_in(self, name: str) -> "WorkerThread":
        """Start another thread for the same queue."""
        return WorkerThread(name, self._tasks)

    def run(self) -> None:
        if self._niceness:
            _lower_priority(self._niceness)
        while True:
            task = self._tasks.get()
            try:
                task()
            # Tasks handle expected errors. After any other, callers of a dead thread would wait forever
            except BaseException:
                log.exception("worker thread failed", extra={"thread_name": self.name})
                os._exit(1)
            del task  # it may reference the last batch's tensors


def _lower_priority(niceness: int) -> None:
    """Lower the priority of the calling thread; Linux has one for each thread."""
    thread = threading.get_native_id()
    now = os.getpriority(os.PRIO_PROCESS, thread)
    os.setpriority(os.PRIO_PROCESS, thread, now + niceness)
