"""Residency and scheduler together, in any order of requests, loads, unloads and worker deaths.

Invariants: a leased model is not demoted; capacity is not exceeded; at most one load per model is in flight;
every request ends exactly once; no model waits forever; after all unloads the ledger is empty.
"""

import asyncio
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

import hypothesis.strategies as st
from hypothesis import settings
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from model_handler.artifacts.artifact import Artifact
from model_handler.artifacts.conventions import Convention
from model_handler.artifacts.properties import Properties
from model_handler.engine.admission import QueueBounds
from model_handler.engine.metrics import Metrics
from model_handler.engine.queues import BatchSlots, Job, WorkQueue
from model_handler.engine.scheduler import Scheduler
from model_handler.errors import EngineError, unloading
from model_handler.memory.overheads import Overhead
from model_handler.memory.pools import Footprint, MemoryPool, Tier
from model_handler.memory.residency import Residency
from model_handler.messages import InferenceRequest, InferenceResponse
from model_handler.model import Entry, Model, ModelInfo
from tests.model_handler import ledger
from tests.model_handler.fake_worker import FakeWorker
from tests.model_handler.own_errors import OwnErrors

SIZES = {1: 30, 2: 40, 3: 50, 4: 60, 5: 90, 6: 20}
CAPACITY = 100
UNDERESTIMATE = 7  # of a load, corrected by what is measured
ISOLATED = 2  # a model with its own code and its own worker
ON_CPU = 6  # a model that computes in main memory
OVERHEADS = {
    4: Overhead("other", 10),
    5: Overhead("other", 10),
}  # of a process that two models share
keys = st.sampled_from(sorted(SIZES))
numbers = st.integers(0, 30)


def host_pool(nbytes: int | None) -> MemoryPool | None:
    return None if nbytes is None else MemoryPool(Tier.HOST, nbytes)


class Pair:
    """The device worker and the worker of the isolated model."""

    def __init__(self) -> None:
        self.real_nbytes = (
            CAPACITY  # the real size of the device, which may be smaller than its budget
        )
        self.gpu = False
        self.shared = FakeWorker(lambda model: SIZES[model.model_id], free_nbytes=self.free_nbytes)
        self.own = FakeWorker(lambda model: SIZES[model.model_id], free_nbytes=self.free_nbytes)

    def free_nbytes(self) -> int | None:
        if not self.gpu:
            return None
        held = (self.shared.held | self.own.held) - {ON_CPU}
        return max(0, self.real_nbytes - sum(SIZES[key] for key in held))

    def of(self, model: Model) -> FakeWorker:
        return self.own if model.isolated else self.shared

    async def load(self, model: Model) -> Footprint:
        return await self.of(model).load(model)

    async def demote(self, model: Model) -> int:
        assert model.model_id not in (ISOLATED, ON_CPU)
        return await self.of(model).demote(model)

    async def unload(self, model: Model) -> int:
        return await self.of(model).unload(model)

    async def trim(self) -> int | None:
        return self.free_nbytes()

    def end(self, model: Model, reason: str) -> None:
        self.of(model).end(model, reason)

    @property
    def busy(self) -> list[FakeWorker]:
        return [worker for worker in (self.shared, self.own) if worker.calls]


def model(key: int) -> Model:
    conventions = {ISOLATED: Convention.INFERENCE, ON_CPU: Convention.ONNX}
    convention = conventions.get(key, Convention.HUGGING_FACE)
    artifact = Artifact(Path("/x"), convention, "", "auto", SIZES[key], Properties())
    return Model(Entry(key, ModelInfo(str(key), "/x")), artifact)


class SchedulingMachine(RuleBasedStateMachine):
    host_capacity: int | None = 250

    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.workers = Pair()
        self.slots = [BatchSlots(self.workers.shared), BatchSlots(self.workers.own, depth=1)]
        self.lanes = [WorkQueue(slots) for slots in self.slots]
        self.residency = Residency(self.workers, CAPACITY, host_pool(self.host_capacity))
        self.workers.gpu = self.host_capacity is not None
        self.scheduler = Scheduler({"": self.residency}, Metrics())
        self.models: dict[int, Model] = {}
        self.departing: set[int] = set()
        self.own_errors = OwnErrors()
        self.requests: list[asyncio.Task[InferenceResponse]] = []
        self.others: list[asyncio.Task[None]] = []

    # ---- the harness ----

    def go(self, work: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        task = self.loop.create_task(work)
        self.turn()
        return task

    def turn(self) -> None:
        """Run the event loop until only the worker can continue."""
        self.loop.run_until_complete(self._turns())

    async def _turns(self) -> None:
        for _ in range(40):
            await asyncio.sleep(0)

    async def load(self, model: Model) -> None:
        try:
            overhead = OVERHEADS.get(model.model_id)
            await self.residency.admit(model, SIZES[model.model_id] - UNDERESTIMATE, overhead)
        except EngineError:
            return
        bounds = QueueBounds(4, 2, delay_s=1e-6 if model.model_id % 2 else 0.0)
        number = int(model.isolated)
        self.scheduler.open(model, self.lanes[number], self.slots[number], bounds)
        self.models[model.model_id] = model

    async def unload(self, model: Model) -> None:
        self.scheduler.abandon(model, unloading(model.info.name))
        await self.scheduler.drained(model)
        await self.scheduler.close(model)
        self.departing.discard(model.model_id)

    async def invoke(self, model: Model, body: bytes) -> InferenceResponse:
        job = Job(InferenceRequest(body), self.loop.time() + 60, self.loop.create_future())
        return await self.scheduler.submit(model, job)

    def loading(self, key: int) -> bool:
        return key in ledger.residences(self.residency)

    # ---- rules ----

    @rule(key=keys)
    def start_load(self, key: int) -> None:
        if not self.loading(key):
            task = self.go(self.load(model(key)))
            task.set_name("load")
            self.others.append(task)

    @precondition(lambda self: self.others)
    @rule(number=numbers)
    def give_up_load(self, number: int) -> None:
        """Cancel a load at any step, as its time limit does."""
        task = self.others[number % len(self.others)]
        if task.get_name() == "load" and not task.cancelling():
            task.cancel()
            self.turn()

    @precondition(lambda self: self.models)
    @rule(number=numbers)
    def unload_at_once(self, number: int) -> None:
        """Unload a model before its promotion begins."""
        key = sorted(self.models)[number % len(self.models)]
        model = self.models.pop(key)
        self.departing.add(key)
        work = self.invoke(model, b"")
        self.requests.append(self.loop.create_task(work))
        self.others.append(self.go(self.unload(model)))

    @precondition(lambda self: self.models)
    @rule(number=numbers)
    def start_unload(self, number: int) -> None:
        model = self.models.pop(sorted(self.models)[number % len(self.models)])
        self.departing.add(model.model_id)
        self.others.append(self.go(self.unload(model)))

    @precondition(lambda self: self.models)
    @rule(number=numbers, body=st.binary(max_size=3))
    def start_invoke(self, number: int, body: bytes) -> None:
        model = self.models[sorted(self.models)[number % len(self.models)]]
        self.requests.append(self.go(self.checked(model, body)))

    async def checked(self, model: Model, body: bytes) -> InferenceResponse:
        answer = await self.invoke(model, body)
        assert answer.body == b"%d:" % model.model_id + body
        return answer

    @precondition(lambda self: self.requests)
    @rule(number=numbers)
    def client_goes(self, number: int) -> None:
        self.requests[number % len(self.requests)].cancel()
        self.turn()

    @precondition(lambda self: self.workers.busy)
    @rule(number=numbers)
    def worker_goes_on(self, number: int) -> None:
        busy = self.workers.busy
        busy[number % len(busy)].let_go(number // len(busy))
        self.turn()

    @rule(isolated=st.booleans())
    def worker_dies(self, isolated: bool) -> None:
        """The models of the other worker are not affected."""
        self.loop.call_soon(self.lose, isolated)
        self.turn()
        self.loop.call_soon(self.scheduler.pump, self.lanes[isolated])
        self.turn()

    def lose(self, isolated: bool) -> None:
        lost = [one for one in self.residency.models() if one.isolated == isolated]
        self.residency.lost(lost)
        self.scheduler.lost(lost)
        (self.workers.own if isolated else self.workers.shared).die()

    @rule(nbytes=st.integers(40, CAPACITY))
    def device_has(self, nbytes: int) -> None:
        """Another program on the device allocates or frees memory."""
        self.workers.real_nbytes = nbytes

    @rule(isolated=st.booleans())
    def memory_is_short(self, isolated: bool) -> None:
        """The next batch runs out of memory."""
        (self.workers.own if isolated else self.workers.shared).starved = True

    @precondition(lambda self: self.host_capacity is not None and ISOLATED in self.models)
    @rule(nbytes=st.integers(0, 70), main_nbytes=st.integers(0, 40))
    def isolated_grows(self, nbytes: int, main_nbytes: int) -> None:
        self.go(self.remeasure(Footprint(nbytes, main_nbytes)))

    async def remeasure(self, footprint: Footprint) -> None:
        self.residency.remeasure(self.models[ISOLATED], footprint)

    # ---- what must hold ----

    @invariant()
    def no_error_of_ours(self) -> None:
        assert not self.own_errors.found
        assert not self.workers.shared.broken + self.workers.own.broken

    @invariant()
    def never_more_than_there_is(self) -> None:
        places = ledger.residences(self.residency).values()
        device, host = self.residency.device, self.residency.host
        held = sum(one.device.nbytes for one in places if one.device and one.home is device)
        overhead = ledger.overhead_nbytes(self.residency)
        assert held + overhead == device.reserved <= CAPACITY
        if host is not None:
            reserved = [one.waiting for one in places] + [one.main for one in places]
            reserved += [one.device for one in places if one.home is host]
            assert sum(one.nbytes for one in reserved if one) == host.reserved <= host.budget
        on_device = [one for one in places if one.tier is Tier.DEVICE]
        held_by = self.workers.shared.held | self.workers.own.held
        assert {one.model.model_id for one in on_device} <= held_by
        assert all(one.device is not None for one in on_device)

    @invariant()
    def never_more_batches_than_depth(self) -> None:
        for slots, worker in zip(self.slots, (self.workers.shared, self.workers.own), strict=True):
            running = [call for call in worker.calls if call.kind == "run"]
            assert len(running) <= slots.depth

    @invariant()
    def isolated_models_stay(self) -> None:
        """An isolated model is not demoted; it leaves only by an unload or the death of its process."""
        place = ledger.residences(self.residency).get(ISOLATED)
        if place is not None and place.demotion is not None:
            assert place.closed or ISOLATED not in self.models

    def teardown(self) -> None:
        """After any steps, the worker can answer all requests, and the ledger becomes empty."""
        self.exhaust()
        for key in sorted(self.models):
            self.departing.add(key)
            self.others.append(self.go(self.unload(self.models.pop(key))))
        self.exhaust()
        self.own_errors.close()
        self.no_error_of_ours()
        for task in [*self.requests, *self.others]:
            assert task.done(), "somebody waits for ever"
            error = None if task.cancelled() else task.exception()
            assert error is None or isinstance(error, EngineError), error
        assert self.residency.device.reserved == 0
        assert self.residency.host is None or self.residency.host.reserved == 0
        for worker in (self.workers.shared, self.workers.own):
            assert not worker.held
            assert not worker.demoted
        assert ledger.queued_nbytes(self.scheduler) == self.scheduler.waiting() == 0
        self.loop.run_until_complete(self.loop.shutdown_asyncgens())
        self.loop.close()

    def exhaust(self) -> None:
        self.turn()
        for _ in range(2_000):
            if not self.workers.busy:
                return
            self.workers.busy[0].let_go(0)
            self.turn()
        raise AssertionError("the worker is kept busy for ever")


class OneTierMachine(SchedulingMachine):
    """A machine without a GPU: nothing is demoted, a full device refuses."""

    host_capacity = None


TestWithHostTier = SchedulingMachine.TestCase
TestWithHostTier.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
TestOneTier = OneTierMachine.TestCase
TestOneTier.settings = settings(max_examples=40, stateful_step_count=40, deadline=None)
