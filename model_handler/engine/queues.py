"""What waits and what runs, for one model and for one worker. Plain state, which only the scheduler changes.

Invariant: a queue holds at most `limit` requests, and only such whose caller still waits.
"""

import asyncio
from collections.abc import Awaitable, Iterable
from typing import Protocol

from model_handler.engine.admission import QueueBounds
from model_handler.errors import QueueFull
from model_handler.memory.lease import Lease, Residence
from model_handler.messages import Done, InferenceRequest, InferenceResponse, Run
from model_handler.model import Model
from model_handler.sharing.fairness import Shares

MAX_BATCH_NBYTES = 64 << 20  # bodies of one batch travel in one message


class Job:
    """One request. `deadline` is on the event loop's clock and includes the time in the queue. `retried`: it
    ran out of device memory once."""

    __slots__ = ("answer", "deadline", "request", "retried")

    def __init__(
        self, request: InferenceRequest, deadline: float, answer: asyncio.Future[InferenceResponse]
    ) -> None:
        self.request = request
        self.deadline = deadline
        self.answer = answer
        self.retried = False


class RequestQueue(dict[Job, None]):
    """One model's waiting requests, first in, first out. `pop` removes a job whose caller has left."""

    def __init__(self, name: str, limit: int) -> None:
        super().__init__()
        self._name = name
        self._limit = limit

    def add(self, job: Job) -> None:
        """Raises QueueFull."""
        if len(self) >= self._limit:
            raise QueueFull(f"{self._limit} requests are waiting for model {self._name!r} already")
        self[job] = None

    def put_back(self, jobs: Iterable[Job]) -> None:
        """To the front, whatever the limit is: they had been in here."""
        later = self.take_all()
        self.update(dict.fromkeys([*jobs, *later]))

    def take(self, max_size: int, max_nbytes: int = MAX_BATCH_NBYTES) -> list[Job]:
        """The next batch: the oldest jobs, at least one, within both bounds."""
        batch: list[Job] = []
        nbytes = 0
        for job in self:
            nbytes += len(job.request.body)
            if batch and (len(batch) == max_size or nbytes > max_nbytes):
                break
            batch.append(job)
        for job in batch:
            del self[job]
        return batch

    def take_all(self) -> list[Job]:
        jobs = list(self)
        self.clear()
        return jobs


class BatchRunner(Protocol):
    """Computes batches: a device worker, or the process of an isolated model."""

    def run(self, command: Run) -> Awaitable[Done]: ...

    def replace(self, reason: str, culprit: int = 0) -> None:
        """End the process; another one is started. `culprit`: the model_id to blame."""
        ...


class WorkQueue:
    """The work of one worker: the order of its models' turns, and its batches in flight.

    `depth`: batches in flight at a time; by default one computes while the next is prepared. `each`: the
    same for one model. `grace_s`: a worker whose batch is this late after its deadline is replaced.
    """

    def __init__(
        self, worker: BatchRunner, depth: int = 2, grace_s: float = 30.0, each: int | None = None
    ) -> None:
        self.worker = worker
        self.depth = depth
        self.each = each or depth
        self.grace_s = grace_s
        self.in_flight = 0
        self.pumping = False
        self.turns: Shares[ModelQueue] = Shares()


class ModelQueue:
    """The work of one model: waiting requests, batches in flight, and the lease for its next batch.

    `ripe_at`, on the event loop's clock: until then a batch that is not full waits for more requests.
    `hold`: a lease taken when the model was promoted for waiting requests. `expected_s`: estimated device
    time of the next batch. `waiting_for_memory`: requests to be tried again, see Scheduler.
    """

    def __init__(
        self, model: Model, residence: Residence, work_queue: WorkQueue, bounds: QueueBounds
    ) -> None:
        self.model = model
        self.residence = residence
        self.work_queue = work_queue
        self.requests = RequestQueue(model.info.name, bounds.limit)
        self.batch_size = bounds.batch_size
        self.delay_s = bounds.delay_s
        self.weight = bounds.weight
        self.ripe_at = 0.0
        self.expected_s = 0.0
        self.running: set[asyncio.Task[None]] = set()
        self.waiting_for_memory: set[asyncio.Task[None]] = set()
        self.computing: set[Job] = set()
        self.fetch: asyncio.Task[None] | None = None
        self.hold: Lease | None = None
        self.empty = asyncio.Event()
        self.empty.set()

    def drop_hold(self) -> None:
        if self.hold is not None:
            self.hold.release()
            self.hold = None
