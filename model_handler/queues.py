"""What waits and runs: of one worker, and of one model.

Plain state of the scheduler, which alone changes it.
"""

import asyncio
from typing import Protocol

from model_handler.admission import LineBounds
from model_handler.batcher import Job, Queue
from model_handler.fairness import Shares
from model_handler.messages import Done, Run
from model_handler.model import Model
from model_handler.residence import Lease


class Worker(Protocol):
    """What computes batches."""

    async def run(self, command: Run) -> Done: ...

    def replace(self, reason: str, culprit: int = 0) -> None:
        """End the process; its successor comes by itself. `culprit`: the model_id to blame."""
        ...


class Lane:
    """One worker's work: whose turn it is on it, and how many batches it has.

    `depth`: batches that it may have at a time; by default one computes while the next is being
    prepared. `each`: of those, of one model. `grace_s`: a batch this late past its deadline means that
    the worker is wedged.
    """

    def __init__(
        self, worker: Worker, depth: int = 2, grace_s: float = 30.0, each: int | None = None
    ) -> None:
        self.worker = worker
        self.depth = depth
        self.each = each or depth
        self.grace_s = grace_s
        self.in_flight = 0
        self.pumping = False
        self.turns: Shares[int] = Shares()


class Line:
    """One model's work: its queue, its batches in flight, and the lease taken ahead for its next.

    `ripe_at`, on the event loop's clock: until then a batch that is not full waits for company.
    `expected_s`: device time that its next batch is thought to take.
    """

    def __init__(self, model: Model, lane: Lane, bounds: LineBounds) -> None:
        self.model = model
        self.lane = lane
        self.queue = Queue(model.info.name, bounds.limit)
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
        if self.queue or self.running or self.waiting_for_memory:
            self.empty.clear()
        else:
            self.empty.set()

    def drop_hold(self) -> None:
        if self.hold is not None:
            self.hold.release()
            self.hold = None
