"""The queues: what waits and runs for one worker, and for one model.

Plain state, which only the scheduler changes.
"""

import asyncio
from typing import Protocol

from model_handler.engine.admission import QueueBounds
from model_handler.engine.jobs import Job, RequestQueue
from model_handler.memory.lease import Lease
from model_handler.messages import Done, Run
from model_handler.model import Model
from model_handler.sharing.fairness import Shares


class BatchRunner(Protocol):
    """Computes batches: a device worker, or the process of an isolated model."""

    async def run(self, command: Run) -> Done: ...

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
        self.turns: Shares[int] = Shares()


class ModelQueue:
    """The work of one model: waiting requests, batches in flight, and the lease for its next batch.

    `ripe_at`, on the event loop's clock: until then a batch that is not full waits for more requests.
    `hold`: a lease taken when the model was promoted for waiting requests. `expected_s`: estimated device
    time of the next batch. `waiting_for_memory`: requests to be tried again, see Scheduler.
    """

    def __init__(self, model: Model, work_queue: WorkQueue, bounds: QueueBounds) -> None:
        self.model = model
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

    def note_change(self) -> None:
        if self.requests or self.running or self.waiting_for_memory:
            self.empty.clear()
        else:
            self.empty.set()

    def drop_hold(self) -> None:
        if self.hold is not None:
            self.hold.release()
            self.hold = None
