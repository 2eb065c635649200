"""Threads of a worker, each for one kind of work."""

import logging
import os
import queue
import threading
from collections.abc import Callable

log = logging.getLogger(__name__)
Task = Callable[[], None]


class WorkerThread(threading.Thread):
    """A thread that does one thing after the other, in the order asked; or several that share the tasks."""

    def __init__(self, name: str, tasks: "queue.SimpleQueue[Task] | None" = None) -> None:
        super().__init__(name=name, daemon=True)
        self._tasks = tasks or queue.SimpleQueue()
        self.start()

    def join_in(self, name: str) -> "WorkerThread":
        """A further thread for the same tasks."""
        return WorkerThread(name, self._tasks)

    def put(self, task: Task) -> None:
        self._tasks.put(task)

    def run(self) -> None:
        while True:
            task = self._tasks.get()
            try:
                task()
            # A bug of ours, whatever it raised: a worker with a dead thread would hang its callers
            except BaseException:
                log.exception("worker thread failed", extra={"lane": self.name})
                os._exit(1)
            del task  # it may hold the last batch's tensors
