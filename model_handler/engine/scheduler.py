"""Which model's batch runs next, and the batches that are running.

Batches form while the workers are busy, without timers, unless a model's artifact asks for a delay. The model
with the least compute time so far, over all workers, is next, so that heavy batches do not slow other models
down. Invariant: at most `depth` batches of a worker's slots are in flight, each under a lease; every job
ends, with an answer or an error. An error of ours ends the requests of one model, the others go on.
"""

import asyncio
import itertools
import logging
from collections.abc import Iterable, Mapping
from functools import partial
from weakref import WeakSet

from model_handler.engine.admission import QueueBounds
from model_handler.engine.metrics import Metrics
from model_handler.engine.placement import SLOW_S, add_slot, share_of_queue, wide_threads
from model_handler.engine.queues import (
    BatchSlots,
    Cores,
    Job,
    ModelQueue,
    Replica,
    RunningBatch,
    WorkQueue,
    fail,
)
from model_handler.engine.replicas import Replicas, give_up
from model_handler.errors import (
    EngineError,
    InsufficientMemory,
    QueueFull,
    WorkerDied,
    from_wire,
    unexpected,
)
from model_handler.memory.pools import Footprint
from model_handler.memory.residency import Residency
from model_handler.messages import Done, InferenceResponse, Refusal, Run
from model_handler.model import Model
from model_handler.sharing.cores import NARROW_S

log = logging.getLogger(__name__)
MAX_HELD_NBYTES = 1 << 30


class Scheduler:
    """`residencies`: by device, as in BatchSlots. `cores`: those that the batches of device workers share."""

    def __init__(
        self, residencies: Mapping[str, Residency], metrics: Metrics, cores: Cores | None = None
    ) -> None:
        self._residencies = residencies
        self._metrics = metrics
        self._cores = cores or Cores(0)
        self._replicas = Replicas(residencies, self._cores, self.pump, self._computed)
        self._sharing: WeakSet[WorkQueue] = WeakSet()  # those whose batches share the cores
        self._model_queues: dict[int, ModelQueue] = {}
        self._batch_ids = itertools.count(1)
        self._held_nbytes = 0
        self._defects = list[tuple[ModelQueue, BaseException]]()  # see `_can_run`

    # ---- the engine's side ----

    def open(
        self, model: Model, work_queue: WorkQueue, slots: BatchSlots, bounds: QueueBounds
    ) -> None:
        """The model was admitted. `slots`: those of its worker, one of `work_queue`."""
        home = Replica(slots, self._residencies[slots.device].residence(model))
        self._model_queues[model.model_id] = ModelQueue(model, work_queue, home, bounds)
        if slots.shares_cores:
            self._sharing.add(work_queue)

    async def close(self, model: Model) -> None:
        """Return when all workers have freed the model. Its queue must be empty, see `abandon`."""
        model_queue = self._model_queues.pop(model.model_id)
        assert model_queue.empty.is_set()
        model_queue.work_queue.turns.forget(model_queue)
        await self._replicas.vacate(model_queue.replicas)

    async def move(self, model: Model, work_queue: WorkQueue, slots: BatchSlots) -> None:
        """Make another worker the model's only one. Batches in flight end where they are."""
        if (model_queue := self._model_queues.get(model.model_id)) is None:
            return
        if slots.shares_cores:
            self._sharing.add(work_queue)
        await self._replicas.move(model_queue, work_queue, slots)

    def device(self, model: Model) -> str:
        """The device of the model's home."""
        return self._model_queues[model.model_id].home.slots.device

    def model(self, model_id: int) -> Model | None:
        """The first replica of a model that was opened."""
        model_queue = self._model_queues.get(model_id)
        return None if model_queue is None else model_queue.model

    async def submit(self, model: Model, job: Job) -> InferenceResponse:
        """The job's answer. Raises QueueFull at once, or the error of its batch.

        Cancellation removes a waiting job from its queue; a job in a batch is computed to the end, and its
        bytes are counted until then.
        """
        model_queue = self._model_queues[model.model_id]
        try:
            self._enqueue(model_queue, job)
            return await job.answer
        finally:
            if job in model_queue.requests:
                del model_queue.requests[job]
                model_queue.settle()
            if job not in model_queue.computing:
                self._held_nbytes -= job.held_nbytes
                job.held_nbytes = 0

    def _enqueue(self, model_queue: ModelQueue, job: Job) -> None:
        """The queue bounds the number of its requests, this the bytes of all requests."""
        nbytes = len(job.request.body)
        for name, value in job.request.headers:
            nbytes += len(name) + len(value)
        if self._held_nbytes + nbytes > MAX_HELD_NBYTES:
            raise QueueFull(f"requests of {self._held_nbytes} bytes are in flight already")
        model_queue.requests.add(job)
        self._held_nbytes += nbytes
        job.held_nbytes = nbytes
        if model_queue.delay_s and len(model_queue.requests) == 1:
            self._ripen(model_queue)
        model_queue.empty.clear()
        model_queue.work_queue.turns.enter(model_queue)
        self._pump_soon(model_queue.work_queue)

    def _computed(self, jobs: Iterable[Job]) -> None:
        """They are in no batch any more: those that have their answer are not held by anything."""
        for job in jobs:
            if job.answer.done():
                self._held_nbytes -= job.held_nbytes
                job.held_nbytes = 0

    def _pump_soon(self, work_queue: WorkQueue) -> None:
        """Once per turn of the event loop, so that requests which arrive together share a batch."""
        if not work_queue.pumping:
            work_queue.pumping = True
            asyncio.get_running_loop().call_soon(self.pump, work_queue)

    def _ripen(self, model_queue: ModelQueue) -> None:
        """Start the delay of a batch with its first request."""
        loop = asyncio.get_running_loop()
        model_queue.ripe_at = loop.time() + model_queue.delay_s
        loop.call_at(model_queue.ripe_at, self._ripened, model_queue, model_queue.ripe_at)

    def _ripened(self, model_queue: ModelQueue, ripe_at: float) -> None:
        """The delay is over, whatever the clock says: a timer's rounding may end it a little before."""
        if model_queue.ripe_at == ripe_at:
            model_queue.ripe_at = 0.0
        self.pump(model_queue.work_queue)

    async def drained(self, model: Model) -> None:
        """Return when nothing of the model waits or runs."""
        await self._model_queues[model.model_id].empty.wait()

    def abandon(self, model: Model, error: EngineError) -> None:
        """Answer all requests of the model with the error; results of batches in flight are dropped."""
        model_queue = self._model_queues[model.model_id]
        fail(model_queue.requests.take_all(), error)
        fail(model_queue.computing, error)
        model_queue.settle()

    def lost(self, models: Iterable[Model]) -> None:
        """Release the leases held for replicas whose worker died; let other replicas compute."""
        for model in models:
            if (model_queue := self._model_queues.get(model.model_id)) is not None:
                self._replicas.lost(model_queue, model)
                self._pump_soon(model_queue.work_queue)

    def waiting(self) -> int:
        return sum(len(one.requests) for one in self._model_queues.values())

    def running(self) -> int:
        return sum(len(one.running) for one in self._model_queues.values())

    # ---- turns ----

    def pump(self, work_queue: WorkQueue) -> None:
        """Start what can be started. Called when a request, a free slot or a replica arrives."""
        work_queue.pumping = False
        turns = work_queue.turns
        while turns.inside and not work_queue.full:
            model_queue = turns.next(self._can_run)
            if model_queue is None:
                break
            self._start(model_queue)
        while self._defects:
            defective, error = self._defects.pop()
            give_up(defective, error)
        if turns.inside:
            self._replicas.look_after([one for one in turns.inside if _ripe(one)])

    def _can_run(self, model_queue: ModelQueue) -> bool:
        try:
            model_queue.chosen = soonest(model_queue, self._cores) if _ripe(model_queue) else None
        except BaseException as error:  # noqa: BLE001  see `pump`
            self._defects.append((model_queue, error))
            return False
        return model_queue.chosen is not None

    # ---- batches ----

    def _start(self, model_queue: ModelQueue) -> None:
        """Start the model's next batch; where that fails, its requests get the error."""
        assert model_queue.chosen is not None
        batch = RunningBatch(model_queue, model_queue.chosen)
        try:
            self._take(batch)
            task = asyncio.create_task(self._run(batch))
        except BaseException as error:  # noqa: BLE001  logged by `give_up`
            batch.give_back()
            give_up(model_queue, error, batch.jobs)
        else:
            model_queue.running.add(task)
            model_queue.settle()

    def _take(self, batch: RunningBatch) -> None:
        model_queue, slots, cores = batch.model_queue, batch.slots, self._cores
        now, threads, size = asyncio.get_running_loop().time(), 0, model_queue.batch_size
        if slots.load.in_flight or model_queue.delayed:
            self._replicas.note_start(model_queue, slots, now)
        if slots.shares_cores and cores.total:
            narrow = model_queue.work_s < NARROW_S
            threads = 1 if narrow else wide_threads(model_queue, slots, cores, self._sharing)
        if len(model_queue.replicas) > 1:
            size = min(size, share_of_queue(model_queue))
        batch.take(size, threads, cores, now)

    async def _run(self, batch: RunningBatch) -> None:
        task, starved = asyncio.current_task(), list[Job]()
        assert task is not None
        try:
            command, wedged = self._command(batch)
            added, pump = list[BatchSlots](), partial(self.pump, batch.model_queue.work_queue)
            slow = asyncio.get_running_loop().call_later(SLOW_S, add_slot, batch.slots, added, pump)
            try:
                done = await batch.slots.worker.run(command)
            finally:
                wedged.cancel()
                slow.cancel()
                for slots in added:
                    slots.depth -= 1
            self._check(batch, done)
            starved = _deliver(batch.jobs, done)
            batch.model_queue.computed(batch, done.forward_s)
            batch.slots.load.computed(done.forward_s, asyncio.get_running_loop().time())
            self._metrics.forward_seconds.observe(done.forward_s)
        except EngineError as error:
            fail(batch.jobs, error)
        except BaseException as error:
            starved = []
            fail(batch.jobs, unexpected(error))
            if task.cancelling():
                raise
            log.critical("batch failed", exc_info=error)
        finally:
            batch.model_queue.running.discard(task)
            self._end(batch, starved)

    def _end(self, batch: RunningBatch, starved: list[Job]) -> None:
        """Give back what the batch took, and use it for others."""
        batch.give_back()
        self._computed(batch.jobs)
        if starved:
            self._replicas.retry(batch, starved)
        batch.model_queue.settle()
        self._pump_after(batch)

    def _pump_after(self, batch: RunningBatch) -> None:
        """Start what the freed slot and cores allow: what waits for a core in other queues comes first."""
        own = batch.model_queue.work_queue
        if batch.threads:
            for work_queue in self._sharing:
                if work_queue.turns.inside and work_queue is not own:
                    self.pump(work_queue)
        self.pump(own)

    def _command(self, batch: RunningBatch) -> tuple[Run, asyncio.TimerHandle]:
        """The message to the worker, and the timer that replaces a worker which does not answer it."""
        self._metrics.batch_size.observe(len(batch.jobs))
        loop, slots = asyncio.get_running_loop(), batch.slots
        model_id = batch.model_queue.model.model_id
        requests = [job.request for job in batch.jobs]
        left_s = max([job.deadline for job in batch.jobs]) - loop.time()
        late_s, replace = left_s + slots.grace_s, slots.worker.replace
        wedged = loop.call_later(late_s, replace, "a batch never ended", model_id)
        return Run(next(self._batch_ids), model_id, requests, left_s, batch.threads), wedged

    def _check(self, batch: RunningBatch, done: Done) -> None:
        """Raises WorkerDied for a report that does not fit the batch; records the memory that it states."""
        if len(done.results) != len(batch.jobs):
            batch.slots.worker.replace("a batch came back with the wrong number of results")
            raise WorkerDied("the worker returned the wrong number of results")
        if done.held_nbytes or done.held_main_nbytes:
            footprint = Footprint(done.held_nbytes, done.held_main_nbytes)
            residency = self._residencies[batch.slots.device]
            residency.remeasure(batch.replica.model, footprint)


def soonest(model_queue: ModelQueue, cores: Cores) -> Replica | None:
    """The replica for the next batch: in an idle worker, the latest used first, else in the one that is
    expected to be idle first. None if no worker that has the model takes another batch."""
    candidates = [one for one in model_queue.replicas if _takes_batch(one, cores)]

    def order(replica: Replica) -> tuple[bool, float, bool]:
        load, until = replica.slots.load, replica.slots.busy_until
        return load.in_flight > 0, until, replica is not model_queue.last

    return min(candidates, key=order, default=None)


def _takes_batch(replica: Replica, cores: Cores) -> bool:
    """Whether another batch can be sent to its worker: a slot, the model and a core are there."""
    slots = replica.slots
    if slots.in_flight >= slots.depth or replica.running >= slots.each:
        return False
    present = replica.hold is not None or replica.residence.leasable
    return present and cores.has_one_for(slots)


def _ripe(model_queue: ModelQueue) -> bool:
    """Whether its batch is full or has waited for more requests for long enough."""
    if not model_queue.delay_s or len(model_queue.requests) >= model_queue.batch_size:
        return True
    return asyncio.get_running_loop().time() >= model_queue.ripe_at


def _deliver(jobs: list[Job], done: Done) -> list[Job]:
    """Answer the jobs; returns those that ran out of device memory for the first time."""
    starved = []
    for job, result in zip(jobs, done.results, strict=True):
        if job.answer.done():
            continue
        if not isinstance(result, Refusal):
            job.answer.set_result(result)
        elif result.error == InsufficientMemory.__name__ and not job.retried:
            job.retried = True
            starved.append(job)
        else:
            job.answer.set_exception(from_wire(result.error, result.message, result.status))
    return starved
