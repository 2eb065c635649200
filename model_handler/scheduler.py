"""Which model's batch runs next, and the batches that are running.

Batches form while the device is busy, without timers, unless a model's artifact asks for a delay. Turns
go by device time had, so that a model with heavy batches does not slow the others down to its pace.
Always true: at most `depth` batches are in flight on a lane, each under a lease; every submitted job
ends, with an answer or with an error.
"""

import asyncio
import itertools
from collections.abc import Iterable

from model_handler.admission import LineBounds
from model_handler.batcher import Job
from model_handler.errors import (
    EngineError,
    InsufficientMemory,
    ModelUnloading,
    QueueFull,
    WorkerDied,
    from_wire,
)
from model_handler.messages import Done, InferenceResponse, Refusal, Run
from model_handler.metrics import Metrics
from model_handler.model import Model
from model_handler.queues import Lane, Line
from model_handler.residence import Lease
from model_handler.residency import Residency

MAX_HELD_NBYTES = 1 << 30
# Of the last batch in what the next one is expected to cost
RECENCY = 0.5


class Scheduler:
    def __init__(self, residency: Residency, metrics: Metrics) -> None:
        self._residency = residency
        self._metrics = metrics
        self._lines: dict[int, Line] = {}
        self._batch_ids = itertools.count(1)
        self._held_nbytes = 0

    # ---- the engine's side ----

    def open(self, model: Model, lane: Lane, bounds: LineBounds) -> None:
        """`lane`: of the worker that computes for the model."""
        self._lines[model.model_id] = Line(model, lane, bounds)

    def close(self, model: Model) -> None:
        """The line must be empty: see `drained` and `abandon`."""
        line = self._lines.pop(model.model_id)
        assert line.empty.is_set()
        line.lane.turns.forget(model.model_id)

    def move(self, model: Model, lane: Lane) -> None:
        """From now on another worker computes for the model; what runs already ends where it began."""
        if (line := self._lines.get(model.model_id)) is None:
            return
        line.lane.turns.forget(model.model_id)
        line.lane = lane
        if line.queue:
            lane.turns.enter(model.model_id)

    async def submit(self, model: Model, job: Job) -> InferenceResponse:
        """The job's answer. Raises QueueFull at once, or what became of the batch.

        Cancellation takes a waiting job out of its queue; one that computes is let finish.
        """
        line = self._lines[model.model_id]
        self._refuse_if_full(job)
        line.queue.add(job)
        if line.delay_s and len(line.queue) == 1:
            self._ripen(line)
        line.note_change()
        line.lane.turns.enter(model.model_id)
        self._held_nbytes += len(job.request.body)
        self._pump_soon(line.lane)
        try:
            return await job.answer
        finally:
            self._held_nbytes -= len(job.request.body)
            line.queue.discard(job)
            self._settle(line)

    def _ripen(self, line: Line) -> None:
        """The first of a batch has come: from now on its time runs."""
        loop = asyncio.get_running_loop()
        line.ripe_at = loop.time() + line.delay_s
        loop.call_at(line.ripe_at, self.pump, line.lane)

    def _refuse_if_full(self, job: Job) -> None:
        """Queues bound how many requests wait; this bounds what the bodies of all models' weigh."""
        if self._held_nbytes + len(job.request.body) > MAX_HELD_NBYTES:
            raise QueueFull(f"requests of {self._held_nbytes} bytes are in flight already")

    async def drained(self, model: Model) -> None:
        """Return when nothing of the model waits or runs."""
        await self._lines[model.model_id].empty.wait()

    def abandon(self, model: Model, error: EngineError) -> None:
        """Answer everything that waits or runs with the error; running batches go on unheard."""
        line = self._lines[model.model_id]
        _fail(line.queue.take_all(), error)
        _fail(line.computing, error)
        self._settle(line)

    def lost(self, models: Iterable[Model]) -> None:
        """Their worker died: leases taken ahead are worth nothing."""
        for model in models:
            if (line := self._lines.get(model.model_id)) is not None:
                line.drop_hold()

    def waiting(self) -> int:
        return sum(len(line.queue) for line in self._lines.values())

    def running(self) -> int:
        return sum(len(line.running) for line in self._lines.values())

    # ---- turns ----

    def _pump_soon(self, lane: Lane) -> None:
        """Once for all requests that came with one turn of the event loop, or the first would go alone."""
        if not lane.pumping:
            lane.pumping = True
            asyncio.get_running_loop().call_soon(self._pump_now, lane)

    def _pump_now(self, lane: Lane) -> None:
        lane.pumping = False
        self.pump(lane)

    def pump(self, lane: Lane) -> None:
        """Start what can be started. Called whenever work, room or a model arrives."""
        while lane.in_flight < lane.depth:
            model_id = lane.turns.next(self._can_run)
            if model_id is None:
                break
            self._start(self._lines[model_id])
        for line in self._stranded(lane):
            line.fetch = asyncio.create_task(self._fetch(line))

    def _can_run(self, model_id: int) -> bool:
        line = self._lines[model_id]
        return len(line.running) < line.lane.each and self._here(line) and _ripe(line)

    def _here(self, line: Line) -> bool:
        return line.hold is not None or self._residency.resident(line.model)

    def _stranded(self, lane: Lane) -> list[Line]:
        """Lines with work whose model is not on the device and nobody fetches."""
        lines = (self._lines[model_id] for model_id in lane.turns)
        return [line for line in lines if line.fetch is None and not self._here(line)]

    async def _fetch(self, line: Line) -> None:
        """Bring the model back; its lease waits in `hold` for the line's next turn."""
        try:
            line.hold = await self._residency.acquire(line.model)
        except EngineError as error:
            _fail(line.queue.take_all(), error)
        finally:
            line.fetch = None
            self._settle(line)
        self.pump(line.lane)

    def _settle(self, line: Line) -> None:
        """Put the line's turn, lease and `empty` right after its queue or batches changed."""
        if not line.queue:
            line.lane.turns.leave(line.model.model_id)
            line.drop_hold()
        line.note_change()

    # ---- batches ----

    def _start(self, line: Line) -> None:
        lease = line.hold or self._residency.lease(line.model)
        line.hold = None
        jobs = line.queue.take(line.batch_size)
        line.computing.update(jobs)
        line.lane.in_flight += 1
        line.lane.turns.charge(line.model.model_id, line.expected_s, line.weight)
        task = asyncio.create_task(self._run(line, line.lane, jobs, lease))
        line.running.add(task)
        self._settle(line)

    async def _run(self, line: Line, lane: Lane, jobs: list[Job], lease: Lease) -> None:
        task = asyncio.current_task()
        assert task is not None
        charged_s = line.expected_s
        starved: list[Job] = []
        try:
            done = await self._compute(line, lane, jobs)
            if lane is line.lane:
                _settle_account(line, charged_s, done.forward_s)
            starved = self._deliver(jobs, done)
        except EngineError as error:
            _fail(jobs, error)
        finally:
            line.computing.difference_update(jobs)
            line.running.discard(task)
            lane.in_flight -= 1
            lease.release()
            self._retry_later(line, starved)
            self._settle(line)
            self.pump(lane)

    # ---- out of memory ----

    def _retry_later(self, line: Line, starved: list[Job]) -> None:
        """In a task of its own, which holds no lease and no place on the lane: those who make room may
        wait for both."""
        if starved:
            line.computing.update(starved)
            task = asyncio.create_task(self._retry(line, starved))
            line.waiting_for_memory.add(task)

    async def _retry(self, line: Line, starved: list[Job]) -> None:
        task = asyncio.current_task()
        assert task is not None
        try:
            relieved = await self._residency.relieve(line.model)
        finally:
            line.computing.difference_update(starved)
            line.waiting_for_memory.discard(task)
        if relieved:
            line.queue.put_back([job for job in starved if not job.answer.done()])
            line.lane.turns.enter(line.model.model_id)
        else:
            _fail(
                starved,
                InsufficientMemory("the request needs more memory than the device has left"),
            )
        self._settle(line)
        self.pump(line.lane)

    async def _compute(self, line: Line, lane: Lane, jobs: list[Job]) -> Done:
        loop = asyncio.get_running_loop()
        self._metrics.batch_size.observe(len(jobs))
        left = max(job.deadline for job in jobs) - loop.time()
        requests = [job.request for job in jobs]
        run = Run(next(self._batch_ids), line.model.model_id, requests, left)
        wedged = loop.call_later(
            left + lane.grace_s, lane.worker.replace, "a batch never ended", line.model.model_id
        )
        try:
            done = await lane.worker.run(run)
        finally:
            wedged.cancel()
        if len(done.results) != len(jobs):
            lane.worker.replace("a batch came back with the wrong number of results")
            raise WorkerDied("the worker answered something else than it was asked")
        return done

    def _deliver(self, jobs: list[Job], done: Done) -> list[Job]:
        """Answer the jobs, but for those that the device had no memory for, the first time."""
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


def _settle_account(line: Line, charged_s: float, took_s: float) -> None:
    line.lane.turns.charge(line.model.model_id, took_s - charged_s, line.weight)
    line.expected_s += RECENCY * (took_s - line.expected_s)


def _ripe(line: Line) -> bool:
    if not line.delay_s or len(line.queue) >= line.batch_size:
        return True
    return asyncio.get_running_loop().time() >= line.ripe_at


def _fail(jobs: Iterable[Job], error: EngineError) -> None:
    for job in list(jobs):
        if not job.answer.done():
            job.answer.set_exception(error)


def unloading(name: str) -> ModelUnloading:
    return ModelUnloading(f"model {name!r} was unloaded before the answer came")
