"""Threads of a worker, each for one kind of task."""

import logging
import os
import queue
import threading
from collections.abc import Callable
from typing import NoReturn

from model_handler.sharing import work_record
from model_handler.sharing.work_record import MODEL

log = logging.getLogger(__name__)
Task = Callable[[], object]
OnFailure = Callable[[BaseException, int], NoReturn]


class AtWork(threading.local):
    """`cell[MODEL]`: the model that the calling thread's task works for, to be blamed if the task fails or
    the process ends. Set by the task; 0: none."""

    def __init__(self) -> None:
        self.cell = work_record.join()


at_work = AtWork()


def end_process(error: BaseException, model_id: int) -> NoReturn:
    """The log has the reason, the parent the exit status."""
    log.critical("worker thread failed", exc_info=error, extra={"model_id": model_id})
    os._exit(1)


class WorkerThread(threading.Thread):
    """A thread that runs the tasks of a queue in order. Several threads may share one queue.

    Tasks handle the errors that can be expected. After any other, callers of a dead thread would wait
    forever: `failed` is called with the error and the model at work, see `AtWork`, and ends the process.
    `niceness`: how much lower its scheduling priority is than that of the process.
    """

    def __init__(
        self,
        name: str,
        failed: OnFailure = end_process,
        tasks: "queue.SimpleQueue[Task] | None" = None,
        *,
        niceness: int = 0,
    ) -> None:
        super().__init__(name=name, daemon=True)
        self._failed = failed
        self._niceness = niceness
        self._tasks = tasks or queue.SimpleQueue()
        self.put = self._tasks.put
        self.start()

    def join_in(self, name: str) -> "WorkerThread":
        """Start another thread for the same queue."""
        return WorkerThread(name, self._failed, self._tasks)

    def run(self) -> None:
        try:
            if self._niceness:
                _lower_priority(self._niceness)
            while True:
                at_work.cell[MODEL] = 0
                task = self._tasks.get()
                task()
                del task  # it may reference the last batch's tensors
        except BaseException as error:  # noqa: BLE001  whatever it is, the thread must not end in silence
            try:
                self._failed(error, at_work.cell[MODEL])
            finally:
                os._exit(1)


def _lower_priority(niceness: int) -> None:
    """Lower the priority of the calling thread; Linux has one for each thread."""
    thread = threading.get_native_id()
    now = os.getpriority(os.PRIO_PROCESS, thread)
    os.setpriority(os.PRIO_PROCESS, thread, now + niceness)
