"""Everything that decides, together, with two and three workers on a CPU and with two GPUs, in any order of
requests, loads, unloads, and deaths and starts of workers.

Invariants: capacity is not exceeded, and what is reserved is what is there; workers that compute at the same
time get no more threads than there are cores; a batch goes to a worker that holds its model, and waits in the
queue only while no such worker could start to compute; every request ends once; after all unloads no worker
holds anything, and the ledger is empty.
"""

import hypothesis.strategies as st
from hypothesis import event
from hypothesis.stateful import invariant, precondition, rule

from model_handler.engine.queues import ModelQueue
from model_handler.errors import EngineError
from model_handler.memory.pools import Tier
from model_handler.sharing.turnstile import GENERATIONS
from tests.model_handler import ledger
from tests.model_handler.engine.several_workers import (
    CAPACITY,
    GENERATING,
    PRIVATE_NBYTES,
    SIZES,
    model,
)
from tests.model_handler.engine.workers_bed import SETTLED, WorkersBed

keys = st.sampled_from(sorted(SIZES))
numbers = st.integers(0, 30)
paces = st.sampled_from([SETTLED, SETTLED, SETTLED, 0, 1, 2, 3, 5])


class WorkersMachine(WorkersBed):
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
