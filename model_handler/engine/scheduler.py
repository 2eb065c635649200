"""Which model's batch runs next, and the batches that are running.

Batches form while the device is busy, without timers, unless a model's artifact asks for a delay. Turns
go by device time had, so that a model with heavy batches does not slow the others down to its pace.
Invariant: at most `depth` batches of a work queue are in flight, each under a lease; every submitted job
ends, with an answer or with an error.
"""

import asyncio
import itertools
import math
from collections.abc import Iterable

from model_handler.engine.admission import QueueBounds
from model_handler.engine.metrics import Metrics
from model_handler.engine.queues import Job, ModelQueue, WorkQueue
from model_handler.errors import (
    EngineError,
    InsufficientMemory,
    ModelUnloading,
    QueueFull,
    WorkerDied,
    from_wire,
)
from model_handler.memory.lease import Lease
from model_handler.memory.pools import Footprint
from model_handler.memory.residency import Residency
from model_handler.messages import Done, InferenceResponse, Refusal, Run
from model_handler.model import Model

MAX_HELD_NBYTES = 1 << 30
# Weight of the last batch in the estimate for the next one
RECENCY = 0.5


class Scheduler:
    def __init__(self, residency: Residency, metrics: Metrics) -> None:
        self._residency = residency
        self._metrics = metrics
        self._model_queues: dict[int, ModelQueue] = {}
        self._batch_ids = itertools.count(1)
        self._held_nbytes = 0

    # ---- the engine's side ----

    def open(self, model: Model, work_queue: WorkQueue, bounds: QueueBounds) -> None:
        """The model was admitted. `work_queue`: that of the worker which computes for it."""
        residence = self._residency.residence(model)
        self._model_queues[model.model_id] = ModelQueue(model, residence, work_queue, bounds)

    def close(self, model: Model) -> None:
        """The queue must be empty: see `drained` and `abandon`."""
        model_queue = self._model_queues.pop(model.model_id)
        assert model_queue.empty.is_set()
        model_queue.work_queue.turns.forget(model_queue)

    def move(self, model: Model, work_queue: WorkQueue) -> None:
        """Let another worker compute for the model. Batches in flight end where they are."""
        if (model_queue := self._model_queues.get(model.model_id)) is None:
            return
        model_queue.work_queue.turns.forget(model_queue)
        model_queue.work_queue = work_queue
        if model_queue.requests:
            work_queue.turns.enter(model_queue)

    async def submit(self, model: Model, job: Job) -> InferenceResponse:
        """The job's answer. Raises QueueFull at once, or the error of its batch.

        Cancellation removes a waiting job from its queue; a job in a batch is computed to the end.
        """
        model_queue = self._model_queues[model.model_id]
        self._enqueue(model_queue, job)
        try:
            return await job.answer
        finally:
            self._held_nbytes -= len(job.request.body)
            if job in model_queue.requests:
                del model_queue.requests[job]
                _settle(model_queue)

    def _enqueue(self, model_queue: ModelQueue, job: Job) -> None:
        """The queue bounds the number of its requests, this the bytes of all request bodies."""
        nbytes = len(job.request.body)
        if self._held_nbytes + nbytes > MAX_HELD_NBYTES:
            raise QueueFull(f"requests of {self._held_nbytes} bytes are in flight already")
        model_queue.requests.add(job)
        self._held_nbytes += nbytes
        if model_queue.delay_s and len(model_queue.requests) == 1:
            self._ripen(model_queue)
        model_queue.empty.clear()
        work_queue = model_queue.work_queue
        work_queue.turns.enter(model_queue)
        if not work_queue.pumping:
            # Once per turn of the event loop, so that requests which arrive together share a batch
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
        _fail(model_queue.requests.take_all(), error)
        _fail(model_queue.computing, error)
        _settle(model_queue)

    def lost(self, models: Iterable[Model]) -> None:
        """Release the leases held for models whose worker died."""
        for model in models:
            if (model_queue := self._model_queues.get(model.model_id)) is not None:
                model_queue.drop_hold()

    def waiting(self) -> int:
        return sum(len(model_queue.requests) for model_queue in self._model_queues.values())

    def running(self) -> int:
        return sum(len(model_queue.running) for model_queue in self._model_queues.values())

    # ---- turns ----

    def pump(self, work_queue: WorkQueue) -> None:
        """Start what can be started. Called when a request, a free slot or a model arrives."""
        work_queue.pumping = False
        turns = work_queue.turns
        while turns.inside and work_queue.in_flight < work_queue.depth:
            model_queue = turns.next(_can_run)
            if model_queue is None:
                break
            self._start(model_queue)
        for model_queue in turns.inside:
            if model_queue.fetch is None and not _here(model_queue):
                model_queue.fetch = asyncio.create_task(self._fetch(model_queue))

    async def _fetch(self, model_queue: ModelQueue) -> None:
        """Promote the model; its lease is kept in `hold` until its next turn."""
        try:
            model_queue.hold = await self._residency.acquire(model_queue.model)
        except EngineError as error:
            _fail(model_queue.requests.take_all(), error)
        finally:
            model_queue.fetch = None
            _settle(model_queue)
        self.pump(model_queue.work_queue)

    # ---- batches ----

    def _start(self, model_queue: ModelQueue) -> None:
        work_queue = model_queue.work_queue
        lease = model_queue.hold or model_queue.residence.lease()
        model_queue.hold = None
        jobs = model_queue.requests.take(model_queue.batch_size)
        model_queue.computing.update(jobs)
        work_queue.in_flight += 1
        work_queue.turns.charge(model_queue, model_queue.expected_s, model_queue.weight)
        task = asyncio.create_task(self._run(model_queue, work_queue, jobs, lease))
        model_queue.running.add(task)
        _settle(model_queue)

    async def _run(
        self, model_queue: ModelQueue, work_queue: WorkQueue, jobs: list[Job], lease: Lease
    ) -> None:
        task = asyncio.current_task()
        assert task is not None
        charged_s = model_queue.expected_s
        starved: list[Job] = []
        try:
            command, wedged = self._command(model_queue, work_queue, jobs)
            try:
                done = await work_queue.worker.run(command)
            finally:
                wedged.cancel()
            self._check(model_queue, work_queue, jobs, done)
            if work_queue is model_queue.work_queue:
                _settle_account(model_queue, charged_s, done.forward_s)
            starved = self._deliver(jobs, done)
        except EngineError as error:
            _fail(jobs, error)
        finally:
            model_queue.computing.difference_update(jobs)
            model_queue.running.discard(task)
            work_queue.in_flight -= 1
            lease.release()
            if starved:
                self._retry_later(model_queue, starved)
            _settle(model_queue)
            self.pump(work_queue)

    def _command(
        self, model_queue: ModelQueue, work_queue: WorkQueue, jobs: list[Job]
    ) -> tuple[Run, asyncio.TimerHandle]:
        """The message to the worker, and the timer that replaces a worker which does not answer it."""
        self._metrics.batch_size.observe(len(jobs))
        loop = asyncio.get_running_loop()
        requests, deadline = [], -math.inf
        for job in jobs:
            requests.append(job.request)
            deadline = max(deadline, job.deadline)
        model_id, left_s = model_queue.model.model_id, deadline - loop.time()
        late_s, replace = left_s + work_queue.grace_s, work_queue.worker.replace
        wedged = loop.call_later(late_s, replace, "a batch never ended", model_id)
        return Run(next(self._batch_ids), model_id, requests, left_s), wedged

    def _check(
        self, model_queue: ModelQueue, work_queue: WorkQueue, jobs: list[Job], done: Done
    ) -> None:
        """Raises WorkerDied for a report that does not fit the batch; records the memory that it states."""
        if len(done.results) != len(jobs):
            work_queue.worker.replace("a batch came back with the wrong number of results")
            raise WorkerDied("the worker returned the wrong number of results")
        if done.held_nbytes or done.held_main_nbytes:
            footprint = Footprint(done.held_nbytes, done.held_main_nbytes)
            self._residency.remeasure(model_queue.model, footprint)

    def _deliver(self, jobs: list[Job], done: Done) -> list[Job]:
        """Answer the jobs; returns those that ran out of device memory for the first time."""
        self._metrics.forward_seconds.observe(done.forward_s)
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

    # ---- out of memory ----

    def _retry_later(self, model_queue: ModelQueue, starved: list[Job]) -> None:
        """In a task of its own, without a lease or a slot of the worker: making room may wait for both."""
        model_queue.computing.update(starved)
        task = asyncio.create_task(self._retry(model_queue, starved))
        model_queue.waiting_for_memory.add(task)

    async def _retry(self, model_queue: ModelQueue, starved: list[Job]) -> None:
        task = asyncio.current_task()
        assert task is not None
        try:
            relieved = await self._residency.relieve(model_queue.model)
        finally:
            model_queue.computing.difference_update(starved)
            model_queue.waiting_for_memory.discard(task)
        if relieved:
            model_queue.requests.put_back([job for job in starved if not job.answer.done()])
            model_queue.work_queue.turns.enter(model_queue)
        else:
            _fail(
                starved,
                InsufficientMemory("the request needs more memory than the device has left"),
            )
        _settle(model_queue)
        self.pump(model_queue.work_queue)


def _here(model_queue: ModelQueue) -> bool:
    """Whether the model is on the device, for its next batch."""
    return model_queue.hold is not None or model_queue.residence.leasable


def _can_run(model_queue: ModelQueue) -> bool:
    if len(model_queue.running) >= model_queue.work_queue.each or not _here(model_queue):
        return False
    if not model_queue.delay_s or len(model_queue.requests) >= model_queue.batch_size:
        return True
    return asyncio.get_running_loop().time() >= model_queue.ripe_at


def _settle(model_queue: ModelQueue) -> None:
    """Update turn, lease and `empty` after the requests or batches of the model changed."""
    if not model_queue.requests:
        model_queue.work_queue.turns.leave(model_queue)
        if model_queue.hold is not None:
            model_queue.drop_hold()
    if model_queue.requests or model_queue.running or model_queue.waiting_for_memory:
        model_queue.empty.clear()
    else:
        model_queue.empty.set()


def _settle_account(model_queue: ModelQueue, charged_s: float, took_s: float) -> None:
    model_queue.work_queue.turns.charge(model_queue, took_s - charged_s, model_queue.weight)
    model_queue.expected_s += RECENCY * (took_s - model_queue.expected_s)


def _fail(jobs: Iterable[Job], error: EngineError) -> None:
    for job in list(jobs):
        if not job.answer.done():
            job.answer.set_exception(error)


def unloading(name: str) -> ModelUnloading:
    return ModelUnloading(f"model {name!r} was unloaded before the answer came")
