"""Threads that prepare and finish batches, one model's after another's, none behind a slow one.

One thread leads: it runs the steps of all tasks, in short turns. Several would only compete for the
interpreter. When a step takes long (a large image, a slow chat template), another thread takes the lead, and
the slow one goes on beside it.

Invariants: tasks of one model run in the order of their arrival, except that finishing comes before
preparing. At most one task of a lane runs at a time.
"""

import os
import queue
import threading
import time
from collections import deque
from collections.abc import Callable, Hashable, Iterator
from typing import NamedTuple

from model_handler.sharing.work_record import MODEL
from model_handler.worker.threads import OnFailure, at_work, end_process

TURN_S = 0.005  # after it another task runs, if one waits
LONG_S = 0.02  # a step that takes longer loses the lead
WATCHED_S = 0.25  # for so long after the last step the lead is watched
MOST = 32  # threads


class HostTask(NamedTuple):
    """`lane`: tasks of a lane share an object that one thread may use at a time, such as a tokenizer.

    `steps`: between two of them other tasks may run. `finishes`: it does not wait for preparations.
    """

    lane: Hashable
    model: int
    steps: Iterator[object]
    finishes: bool = False


class HostThreads:
    """`begin`: called once by each thread before its first task. `failed`: as for WorkerThread."""

    def __init__(self, begin: Callable[[], object], failed: OnFailure = end_process) -> None:
        self._begin = begin
        self._failed = failed
        self._arrivals: queue.SimpleQueue[HostTask | None] = queue.SimpleQueue()
        self.put: Callable[[HostTask], None] = self._arrivals.put
        self._guard = threading.Lock()  # protects the attributes below
        self._waiting: deque[HostTask] = deque()
        self._busy: set[Hashable] = set()  # lanes
        self._lead: object = None  # changes when another thread takes it
        self._threads = self._idle = 0
        self._leads: queue.SimpleQueue[object] = queue.SimpleQueue()
        self._since = 0.0  # start of the leader's step; 0: it has none
        self._watched = False
        self._begun: queue.SimpleQueue[None] = queue.SimpleQueue()
        threading.Thread(target=self._watch, name="host watch", daemon=True).start()
        self._pass_lead()

    # ---- the thread that leads ----

    def _serve(self) -> None:
        try:
            self._begin()
            while True:
                lead = self._leads.get()
                with self._guard:
                    self._idle -= 1
                self._run_steps(lead)
                with self._guard:
                    self._idle += 1
        except BaseException as error:  # noqa: BLE001  whatever it is, the thread must not end in silence
            try:
                self._failed(error, at_work.cell[MODEL])
            finally:
                os._exit(1)

    def _run_steps(self, lead: object) -> None:  # noqa: C901  each call would be made for every batch
        """Until another thread has taken the lead. One function, because it runs for every batch."""
        while self._lead is lead:
            arrived = self._arrivals.get()
            with self._guard:
                while True:
                    if arrived is not None and arrived.finishes:
                        self._waiting.appendleft(arrived)
                    elif arrived is not None:
                        self._waiting.append(arrived)
                    if self._arrivals.empty():
                        break
                    arrived = self._arrivals.get()
                for task in self._waiting:
                    if task.lane not in self._busy:
                        break
                else:
                    continue
                self._waiting.remove(task)
                self._busy.add(task.lane)
                self._since = began = time.monotonic()
            if not self._watched:
                self._watched = True
                self._begun.put(None)
            done, at_work.cell[MODEL] = True, task.model
            for _ in task.steps:
                if time.monotonic() - began > TURN_S:
                    done = False
                    break
            with self._guard:
                self._busy.discard(task.lane)
                if self._lead is lead:
                    self._since = 0.0
                if not done:
                    self._continue_later(task)
                if self._waiting:
                    self._arrivals.put(None)
            del task, arrived  # they may reference the last batch's tensors

    def _continue_later(self, task: HostTask) -> None:
        """After the tasks of other models that wait, before those of its own."""
        own = [each for each in self._waiting if each.model == task.model and not each.finishes]
        for each in own:
            self._waiting.remove(each)
        self._waiting += [task, *own]

    # ---- the thread that watches it ----

    def _watch(self) -> None:
        while True:
            self._begun.get()
            last = time.monotonic()
            while time.monotonic() - last < WATCHED_S:
                time.sleep(LONG_S / 2)
                since = self._since
                if since:
                    last = time.monotonic()
                    if last - since > LONG_S:
                        self._replace_leader(since)
            self._watched = False
            if self._since:  # it began before it could know that nobody watches
                self._begun.put(None)

    def _replace_leader(self, since: float) -> None:
        with self._guard:
            works = bool(self._waiting) or not self._arrivals.empty()
            if works and self._since == since:
                self._pass_lead()

    def _pass_lead(self) -> None:
        """To an idle thread or a new one; the slow one keeps its task and its lane."""
        if not self._idle:
            if self._threads >= MOST:
                return
            self._threads += 1
            self._idle += 1
            threading.Thread(target=self._serve, name=f"host {self._threads}", daemon=True).start()
        self._lead, self._since = object(), 0.0
        self._leads.put(self._lead)
        self._arrivals.put(None)  # for tasks that wait already
