"""Everything that decides, together, with two and three workers on a CPU and with two GPUs, in any order of
requests, loads, unloads, and deaths and starts of workers.

Invariants: capacity is not exceeded, and what is reserved is what is there; workers that compute at the same
time get no more threads than there are cores; a batch goes to a worker that holds its model, and waits in the
queue only while no such worker could start to compute; every request ends once; after all unloads no worker
holds anything, and the ledger is empty.
"""

import asyncio
from collections.abc import Coroutine, Iterator
from typing import Any

import hypothesis.strategies as st
from hypothesis import event
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from model_handler.engine.admission import QueueBounds
from model_handler.engine.queues import Job, ModelQueue
from model_handler.errors import EngineError, WorkerDied
from model_handler.memory.lease import Residence
from model_handler.memory.pools import MemoryPool, Tier
from model_handler.memory.residency import Residency
from model_handler.messages import InferenceRequest, InferenceResponse
from model_handler.model import Model, State
from model_handler.sharing.turnstile import GENERATIONS
from tests.model_handler import ledger
from tests.model_handler.engine.several_workers import (
    CAPACITY,
    GENERATING,
    PRIVATE_NBYTES,
    SIZES,
    Workers,
    model,
)
from tests.model_handler.own_errors import OwnErrors
from tests.model_handler.virtual_time import VirtualLoop

DELAYED = 2  # a model whose batches wait for more requests
DELAY_S = 0.003
DEADLINE_S = 60.0
SETTLED = 40  # turns of the event loop after which only workers, timers and clients can go on
keys = st.sampled_from(sorted(SIZES))
numbers = st.integers(0, 30)
paces = st.sampled_from([SETTLED, SETTLED, SETTLED, 0, 1, 2, 3, 5])


class WorkersMachine(RuleBasedStateMachine):
    devices: tuple[str, ...] = ("cpu", "cpu")
    cores = 2
    host_capacity: int | None = None

    def __init__(self) -> None:
        super().__init__()
        self.loop = VirtualLoop()
        self.mistakes: list[dict[str, Any]] = []
        self.loop.set_exception_handler(lambda _, context: self.mistakes.append(context))
        nbytes = self.host_capacity
        host = None if nbytes is None else MemoryPool(Tier.HOST, nbytes)
        self.workers = Workers(self.devices, self.cores, host, self.forget)
        self.own_errors = OwnErrors()
        self.core = self.workers.core
        self.models: dict[int, Model] = {}
        self.named: set[int] = set()  # keys in use: loading, ready or unloading
        self.requests: list[asyncio.Task[InferenceResponse]] = []
        self.others: list[asyncio.Task[None]] = []
        self.settled = True
        self.loop.run_until_complete(self.workers.start_all())
        self.turn(SETTLED)

    # ---- the harness ----

    def go(self, work: Coroutine[Any, Any, Any], pace: int = SETTLED) -> "asyncio.Task[Any]":
        task = self.loop.create_task(work)
        self.turn(pace)
        return task

    def turn(self, pace: int) -> None:
        self.loop.turns(pace)
        self.settled = pace == SETTLED

    def residencies(self) -> Iterator[tuple[str, Residency]]:
        yield from self.core.residencies.items()

    def replicas(self) -> Iterator[tuple[str, Residence]]:
        for device, residency in self.residencies():
            for residence in ledger.replicas(residency):
                yield device, residence

    async def load(self, model: Model) -> None:
        delay_s = DELAY_S if model.model_id == DELAYED else 0.0
        try:
            await self.core.admit(model, QueueBounds(6, 2, delay_s=delay_s))
        except (EngineError, asyncio.CancelledError):
            self.named.discard(model.model_id)
            return
        model.entry.become(State.READY)
        self.models[model.model_id] = model

    async def unload(self, model: Model, drain_s: float) -> None:
        await self.core.remove(model, drain_s)
        model.entry.become(State.GONE)
        self.named.discard(model.model_id)

    def leave(self, model: Model, drain_s: float) -> Coroutine[Any, Any, None]:
        del self.models[model.model_id]
        model.entry.become(State.UNLOADING)
        return self.unload(model, drain_s)

    def forget(self, model: Model, reason: str) -> None:
        """As the engine does with a model that cannot be restored: never because processes died."""
        if model.ready:
            event("a model was given up")
            if not self.workers.gpu:
                self.mistakes.append({"forgotten": model.info.name, "reason": reason})
            departure = self.leave(model, 0.0)
            self.core.scheduler.abandon(model, WorkerDied(reason))
            self.others.append(self.loop.create_task(departure))

    async def invoke(self, model: Model, body: bytes) -> InferenceResponse:
        deadline = self.loop.time() + DEADLINE_S
        job = Job(InferenceRequest(body), deadline, self.loop.create_future())
        answer = await self.core.scheduler.submit(model, job)
        assert answer.body == b"%d:" % model.model_id + body
        return answer

    def one_of(self, number: int) -> Model:
        return self.models[sorted(self.models)[number % len(self.models)]]

    # ---- rules ----

    @rule(key=keys, pace=paces)
    def start_load(self, key: int, pace: int = SETTLED) -> None:
        admitted = {one.model.model_id for _, one in self.replicas()}
        if key not in self.named | admitted:
            self.named.add(key)
            task = self.go(self.load(model(key)), pace)
            task.set_name("load")
            self.others.append(task)

    @rule(key=keys)
    def load_at_once(self, key: int) -> None:
        self.start_load(key)
        while loads := [one for one in self.workers.all if one.busy("load", key)]:
            (call,) = (one for one in loads[0].calls if (one.kind, one.model_id) == ("load", key))
            loads[0].let_go(loads[0].calls.index(call))
            self.turn(SETTLED)

    @precondition(lambda self: self.others)
    @rule(number=numbers, pace=paces)
    def give_up_load(self, number: int, pace: int) -> None:
        """Cancel a load at any step, as its time limit does."""
        task = self.others[number % len(self.others)]
        if task.get_name() == "load" and not task.cancelling():
            task.cancel()
            self.turn(pace)

    @precondition(lambda self: self.models)
    @rule(number=numbers, drain_s=st.sampled_from([0.0, 0.5]), pace=paces)
    def start_unload(self, number: int, drain_s: float, pace: int) -> None:
        self.others.append(self.go(self.leave(self.one_of(number), drain_s), pace))

    @precondition(lambda self: self.models)
    @rule(number=numbers, count=st.integers(1, 5), pace=paces)
    def start_invoke(self, number: int, count: int = 1, pace: int = SETTLED) -> None:
        for which in range(count):
            work = self.invoke(self.one_of(number), b"%d" % which)
            self.requests.append(self.loop.create_task(work))
        self.turn(pace)

    @rule(key=keys)
    def overload(self, key: int) -> None:
        """Load a model, and let its requests wait for as long as opening it in another worker takes."""
        self.load_at_once(key)
        if key in self.models:
            self.start_invoke(sorted(self.models).index(key), 5)
            self.time_passes(0.03)

    @precondition(lambda self: self.requests)
    @rule(number=numbers, pace=paces)
    def client_goes(self, number: int, pace: int) -> None:
        self.requests[number % len(self.requests)].cancel()
        self.turn(pace)

    @precondition(lambda self: self.workers.busy)
    @rule(number=numbers, pace=paces)
    def worker_goes_on(self, number: int, pace: int = SETTLED) -> None:
        busy = self.workers.busy
        busy[number % len(busy)].let_go(number // len(busy))
        self.turn(pace)

    @precondition(lambda self: self.workers.running)
    @rule(number=numbers, blamed=st.booleans(), reported=st.booleans(), pace=paces)
    def worker_dies(self, number: int, blamed: bool, reported: bool, pace: int) -> None:
        """Its models at work are suspected, or one is proven to be the cause."""
        running = self.workers.running
        worker = running[number % len(running)]
        computing = [call.model_id for call in worker.calls if call.kind != "unload"]
        worker.culprit = computing[0] if blamed and computing else 0
        worker.suspects = frozenset(computing)
        worker.poisoned = reported
        self.loop.call_soon(worker.die)
        self.turn(max(1, pace))

    @precondition(lambda self: self.workers.to_start)
    @rule(number=numbers, pace=paces)
    def worker_starts(self, number: int, pace: int) -> None:
        down = self.workers.to_start
        worker = down[number % len(down)]
        worker.failing = False
        self.loop.call_soon(worker.arrive)
        self.turn(max(1, pace))

    @precondition(lambda self: self.workers.to_start)
    @rule(number=numbers)
    def worker_does_not_start(self, number: int) -> None:
        down = self.workers.to_start
        down[number % len(down)].failing = True

    @rule(key=keys, forward_s=st.sampled_from([0.0, 0.002, 0.015, 0.2]))
    def forwards_take(self, key: int, forward_s: float) -> None:
        for worker in self.workers.all:
            worker.forward_s[key] = forward_s

    @rule(seconds=st.sampled_from([0.004, 0.03, 0.3, 11.0]), pace=paces)
    def time_passes(self, seconds: float, pace: int = SETTLED) -> None:
        self.loop.now += seconds
        self.turn(pace)

    @rule(number=numbers)
    def memory_is_short(self, number: int) -> None:
        """The next batch of a worker runs out of memory."""
        self.workers.all[number % len(self.workers.all)].starved = True

    @precondition(lambda self: self.workers.gpu)
    @rule(nbytes=st.integers(60, CAPACITY))
    def device_has(self, nbytes: int) -> None:
        """Another program on the devices allocates or frees memory."""
        self.workers.real_nbytes = nbytes

    # ---- what must hold ----

    @invariant()
    def no_mistake(self) -> None:
        assert not self.mistakes
        assert not self.own_errors.found
        for worker in self.workers.all:
            assert not worker.broken

    @invariant()
    def never_more_than_there_is(self) -> None:
        for _, residency in self.residencies():
            pool, replicas = residency.device, ledger.replicas(residency)
            held = sum(one.device.nbytes for one in replicas if one.device and one.home is pool)
            assert held + ledger.overhead_in(pool, residency) == pool.reserved <= CAPACITY

    @invariant()
    def main_memory_is_counted_once(self) -> None:
        host = next(iter(self.core.residencies.values())).host
        if host is not None:
            places = [one for _, one in self.replicas()]
            reserved = [one.waiting for one in places] + [one.main for one in places]
            reserved += [one.device for one in places if one.home is host]
            processes = sum(ledger.overhead_in(host, one) for _, one in self.residencies())
            held = sum(one.nbytes for one in reserved if one)
            assert held + processes == host.reserved <= host.budget

    @invariant()
    def what_is_here_is_held_and_paid(self) -> None:
        for device, one in self.replicas():
            if one.tier is Tier.DEVICE:
                worker = self.workers.carrier(device, one.model)
                assert one.model.model_id in worker.held
                assert one.device is not None
                shared = one.extra and not self.workers.gpu
                expected = PRIVATE_NBYTES if shared else SIZES[one.model.model_id]
                assert one.device.nbytes == expected
                if one.extra:
                    event("open in a further worker")

    @invariant()
    def each_model_is_at_home_in_one_worker(self) -> None:
        homes = [key for fleet in self.core.fleets.values() for key in ledger.at_home(fleet)]
        assert len(homes) == len(set(homes))
        assert {key for key, one in self.models.items() if one.ready} <= set(homes)

    @invariant()
    def a_leased_replica_stays(self) -> None:
        for _, one in self.replicas():
            moves_apart = one.model.strikes > 0  # once its leases have ended
            assert one.demotion is None or not one.leases or one.lost or moves_apart

    @invariant()
    def never_more_threads_than_cores(self) -> None:
        granted = 0
        for worker in self.workers.all:
            threads = [call.threads for call in worker.calls if call.kind == "run"]
            assert self.workers.gpu or all(threads)
            granted += max(threads, default=0)
        assert granted <= (0 if self.workers.gpu else self.cores)

    @invariant()
    def never_more_batches_than_depth(self) -> None:
        for worker in self.workers.all:
            running = [call.model_id for call in worker.calls if call.kind == "run"]
            assert running.count(GENERATING) <= min(1, GENERATIONS)
            others = [key for key in running if key != GENERATING]
            assert all(others.count(key) <= 2 for key in others)
            assert len(others) <= max(slots.depth for slots in self.slots())

    @invariant()
    def nothing_waits_beside_an_idle_worker(self) -> None:
        if self.settled:
            for model_queue in ledger.model_queues(self.core.scheduler):
                if model_queue.requests and not model_queue.delay_s:
                    assert not self.could_start(model_queue), model_queue.model.info.name

    def could_start(self, model_queue: ModelQueue) -> bool:
        return any(
            one.here and one.slots.idle and self.workers.cores.has_one_for(one.slots)
            for one in model_queue.replicas
        )

    def teardown(self) -> None:
        """After any steps, the workers can answer all requests, and the ledger becomes empty."""
        self.exhaust()
        for key in sorted(self.models):
            self.others.append(self.go(self.leave(self.models[key], 0.0)))
        self.exhaust()
        for task in [*self.requests, *self.others]:
            assert task.done(), "somebody waits for ever"
            error = None if task.cancelled() else task.exception()
            if error is not None and not isinstance(error, EngineError):
                raise error
        for _, residency in self.residencies():
            assert residency.device.reserved == 0
            assert residency.host is None or residency.host.reserved == 0
            assert not ledger.replicas(residency)
        for worker in self.workers.all:
            assert not worker.held
            assert not worker.demoted
        assert ledger.queued_nbytes(self.core.scheduler) == self.core.scheduler.waiting() == 0
        assert all(not slots.load.in_flight for slots in self.slots())
        self.own_errors.close()
        self.no_mistake()
        self.loop.close()

    def slots(self) -> Iterator[Any]:
        for main in self.core.mains():
            for work_queue in main.work_queues:
                yield from work_queue.slots

    def exhaust(self) -> None:
        """Let the workers do all that they have been asked for, and time pass."""
        for _ in range(2_000):
            self.loop.run_until_complete(self.workers.start_all())
            self.time_passes(0.1)
            busy = self.workers.busy
            if not busy and all(task.done() for task in [*self.requests, *self.others]):
                return
            if busy:
                busy[0].let_go(0)
        assert self.workers.busy, "somebody waits for ever"
        raise AssertionError("the workers are kept busy for ever")
