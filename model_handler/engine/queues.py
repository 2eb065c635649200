"""What waits and what runs, for each model and for each worker. Plain state, changed by the scheduler only.

Invariant: a queue holds at most `limit` requests, and only such whose caller still waits.
"""

import asyncio
import logging
from collections.abc import Callable, Iterable
from functools import partial

from model_handler.engine.admission import QueueBounds
from model_handler.engine.batch_runner import BatchRunner
from model_handler.errors import EngineError, QueueFull
from model_handler.memory.lease import Lease, Residence
from model_handler.messages import InferenceRequest, InferenceResponse
from model_handler.model import Model
from model_handler.sharing.cores import first_work_s, speedup
from model_handler.sharing.delays import Delays
from model_handler.sharing.fairness import Shares

log = logging.getLogger(__name__)
MAX_BATCH_NBYTES = 64 << 20  # bodies of one batch travel in one message
HALF_LIFE_S = 5.0
RECENCY = 0.5  # weight of the last batch in the estimate for the next one


class Job:
    """One request. `deadline` is on the event loop's clock and includes the time in the queue. `retried`: it
    ran out of device memory once. `held_nbytes`: what the scheduler counts for it."""

    __slots__ = ("answer", "deadline", "held_nbytes", "request", "retried")

    def __init__(
        self, request: InferenceRequest, deadline: float, answer: asyncio.Future[InferenceResponse]
    ) -> None:
        self.request = request
        self.deadline = deadline
        self.answer = answer
        self.retried = False
        self.held_nbytes = 0


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


class WorkerLoad:
    """The batches in flight of one worker process, of all kinds of work. `threads`: those granted to each."""

    __slots__ = ("_at", "_recent_s", "in_flight", "threads", "total_s", "used")

    def __init__(self) -> None:
        self.in_flight = 0
        self.threads: list[int] = []
        self.used = 0  # largest of `threads`
        self.total_s = 0.0  # compute time so far
        self._recent_s = 0.0
        self._at = 0.0

    def recent_s(self, now: float) -> float:
        """Compute time, halved every HALF_LIFE_S."""
        return float(self._recent_s * 0.5 ** ((now - self._at) / HALF_LIFE_S))

    def computed(self, seconds: float, now: float) -> None:
        self.total_s += seconds
        self._recent_s, self._at = self.recent_s(now) + seconds, now


class BatchSlots:
    """One worker's slots for batches of one kind of work.

    `depth`: batches in flight at a time; by default one computes while the next is prepared. `each`: the
    same for one model. `grace_s`: a worker whose batch is this late after its deadline is replaced. `name`:
    the worker's; `device`: the device's, whose memory it uses. `load`: shared by all slots of the process.
    `shares_cores`: its batches get CPU threads from Cores. `busy_until`: estimated end of its batches, on the
    event loop's clock; 0 without any.
    """

    def __init__(
        self,
        worker: BatchRunner,
        depth: int = 2,
        grace_s: float = 30.0,
        each: int | None = None,
        *,
        name: str = "",
        device: str = "",
        load: WorkerLoad | None = None,
        shares_cores: bool = False,
    ) -> None:
        self.worker = worker
        self.depth = depth
        self.each = each or depth
        self.grace_s = grace_s
        self.name = name
        self.device = device
        self.shares_cores = shares_cores
        self.load = load or WorkerLoad()
        self.in_flight = 0
        self.busy_until = 0.0

    @property
    def idle(self) -> bool:
        """Whether the worker could start to compute at once."""
        return not self.load.in_flight and self.worker.running


class Cores:
    """Grants CPU threads to batches. `total`: 0 where a GPU computes, and nothing is granted.

    Invariant: the threads of all forwards that may compute at the same time never exceed `total`. Two
    batches of one worker never compute at the same time.
    """

    def __init__(self, total: int) -> None:
        self.total = total
        self._used = 0  # by all workers

    def free_for(self, slots: BatchSlots) -> int:
        """Threads that one more batch of this worker could get."""
        return self.total - self._used + slots.load.used

    def has_one_for(self, slots: BatchSlots) -> bool:
        """Whether another batch of this worker may start."""
        return not (self.total and slots.shares_cores) or self.free_for(slots) > 0

    def grant(self, load: WorkerLoad, threads: int) -> None:
        load.threads.append(threads)
        self._used += max(0, threads - load.used)
        load.used = max(load.used, threads)

    def give_back(self, load: WorkerLoad, threads: int) -> None:
        load.threads.remove(threads)
        used = max(load.threads, default=0)
        self._used += used - load.used
        load.used = used


class WorkQueue:
    """One kind of work: the order of the models' turns, and the workers that compute it."""

    def __init__(self, *slots: BatchSlots) -> None:
        self.slots = list(slots)
        self.pumping = False
        self.turns: Shares[ModelQueue] = Shares()

    @property
    def full(self) -> bool:
        return all([slots.in_flight >= slots.depth for slots in self.slots])  # noqa: C419  faster


class Replica:
    """A model in one worker: its batches in flight there, and a lease for the next one.

    `hold`: a lease taken when the replica was promoted for waiting requests. `fetch`: its promotion.
    """

    __slots__ = ("fetch", "hold", "residence", "running", "slots")

    def __init__(self, slots: BatchSlots, residence: Residence) -> None:
        self.slots = slots
        self.residence = residence
        self.running = 0
        self.hold: Lease | None = None
        self.fetch: asyncio.Task[None] | None = None

    @property
    def here(self) -> bool:
        """On the device, for its next batch."""
        return self.hold is not None or self.residence.leasable

    @property
    def model(self) -> Model:
        return self.residence.model

    def lease(self) -> Lease:
        """For one batch. The replica must be `here`."""
        lease, self.hold = self.hold, None
        return lease or self.residence.lease()

    def drop_hold(self) -> None:
        if self.hold is not None:
            self.hold.release()
            self.hold = None


class RunningBatch:
    """One batch of a model. Invariant: whatever fails, `give_back` undoes all that `take` did, once.

    `charged_s`: charged to its model at its start. `threads`: those granted to it.
    """

    __slots__ = (
        "_undo",
        "charged_s",
        "jobs",
        "lease",
        "model_queue",
        "replica",
        "slots",
        "threads",
    )

    def __init__(self, model_queue: "ModelQueue", replica: Replica) -> None:
        self.model_queue = model_queue
        self.replica = replica
        self.slots = replica.slots
        self.jobs: list[Job] = []
        self.threads = 0
        self.charged_s = 0.0
        self._undo: list[Callable[[], object]] = []

    def take(self, size: int, threads: int, cores: Cores, now: float) -> None:
        """Take a lease, up to `size` requests, threads and a slot; charge the expected cost."""
        model_queue, undo, load = self.model_queue, self._undo, self.slots.load
        lease = self.replica.lease()
        undo.append(lease.release)
        self.jobs = model_queue.requests.take(size)
        model_queue.computing.update(self.jobs)
        if threads:
            self.threads = threads
            cores.grant(load, threads)
            undo.append(partial(cores.give_back, load, threads))
        self.replica.running += 1
        self.slots.in_flight += 1
        load.in_flight += 1
        undo.append(self._uncount)
        self.slots.busy_until = max(now, self.slots.busy_until) + model_queue.expected_s
        self.charged_s = model_queue.expected_s * max(1, threads)
        model_queue.work_queue.turns.charge(model_queue, self.charged_s, model_queue.weight)
        model_queue.last = self.replica

    def give_back(self) -> None:
        self.model_queue.computing.difference_update(self.jobs)
        while self._undo:
            undo = self._undo.pop()
            try:
                undo()
            except Exception:  # what else was taken must be given back too
                log.critical("not given back", exc_info=True)

    def _uncount(self) -> None:
        slots = self.slots
        self.replica.running -= 1
        slots.in_flight -= 1
        slots.load.in_flight -= 1
        if not slots.in_flight:
            slots.busy_until = 0.0


class ModelQueue:
    """The work of one model: waiting requests, batches in flight, and its replicas, the first one first.

    `last`, `chosen`: the replicas of the latest and of the next batch. `ripe_at`, on the event loop's clock:
    until then a batch that is not full waits for more requests. `expected_s`: estimated compute time of the
    next batch. `work_s`, `row_s`: estimated time in which one thread would have computed the last
    batch, and one request of it. `delays`: see Delays; `delayed`: one is in progress. `due_timer`: ends
    when opening the model elsewhere is due. `waiting_for_memory`: requests to be tried again, see Replicas.
    """

    def __init__(
        self, model: Model, work_queue: WorkQueue, home: Replica, bounds: QueueBounds
    ) -> None:
        self.model = model
        self.work_queue = work_queue
        self.replicas = [home]
        self.last = home
        self.chosen: Replica | None = None
        self.requests = RequestQueue(model.info.name, bounds.limit)
        self.batch_size = bounds.batch_size
        self.delay_s = bounds.delay_s
        self.weight = bounds.weight
        self.ripe_at = 0.0
        self.expected_s = 0.0
        self.work_s = self.row_s = first_work_s(model.artifact.nbytes)
        self.delays = Delays()
        self.delayed = False
        self.due_timer: asyncio.TimerHandle | None = None
        self.running: set[asyncio.Task[None]] = set()
        self.waiting_for_memory: set[asyncio.Task[None]] = set()
        self.computing: set[Job] = set()
        self.empty = asyncio.Event()
        self.empty.set()

    @property
    def home(self) -> Replica:
        return self.replicas[0]

    def computed(self, batch: RunningBatch, forward_s: float) -> None:
        """Correct the charge and the estimates by the compute time of a batch."""
        took_s = forward_s * max(1, batch.threads)
        self.work_s = forward_s * (speedup(batch.threads) if batch.threads > 1 else 1)
        self.row_s = self.work_s / len(batch.jobs)
        self.expected_s += RECENCY * (forward_s - self.expected_s)
        if batch.replica in self.replicas:
            self.work_queue.turns.charge(self, took_s - batch.charged_s, self.weight)

    def settle(self) -> None:
        """Update turn, leases and `empty` after the requests or batches of the model changed."""
        if not self.requests:
            self.work_queue.turns.leave(self)
            if self.delayed:
                self.delayed = False
                self.delays.end(asyncio.get_running_loop().time())
            for replica in self.replicas:
                if replica.hold is not None:
                    replica.drop_hold()
        if self.requests or self.running or self.waiting_for_memory:
            self.empty.clear()
        else:
            self.empty.set()


def fail(jobs: Iterable[Job], error: EngineError) -> None:
    """Answer with the error, except those that have their answer."""
    for job in list(jobs):
        if not job.answer.done():
            job.answer.set_exception(error)
