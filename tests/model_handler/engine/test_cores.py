"""Threads are granted as far as cores are free. Batches of one worker never compute side by side."""

import asyncio

import hypothesis.strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from model_handler.engine.queues import BatchSlots, Cores
from tests.model_handler.fake_worker import FakeWorker

TOTAL, WORKERS = 4, 3
workers = st.integers(0, WORKERS - 1)


def slots(*, shares_cores: bool = True) -> BatchSlots:
    return BatchSlots(FakeWorker(lambda _: 0), shares_cores=shares_cores)


class CoresMachine(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.cores = Cores(TOTAL)
        self.slots = [slots() for _ in range(WORKERS)]
        self.granted: list[list[int]] = [[] for _ in range(WORKERS)]

    def most(self, worker: int) -> int:
        return max(self.granted[worker], default=0)

    @rule(worker=workers, wanted=st.integers(1, TOTAL))
    def grant(self, worker: int, wanted: int) -> None:
        slots = self.slots[worker]
        if self.cores.has_one_for(slots):
            threads = min(wanted, self.cores.free_for(slots))
            self.cores.grant(slots.load, threads)
            self.granted[worker].append(threads)

    @precondition(lambda self: any(self.granted))
    @rule(worker=workers, which=st.integers(0, 9))
    def give_back(self, worker: int, which: int) -> None:
        if granted := self.granted[worker]:
            threads = granted.pop(which % len(granted))
            self.cores.give_back(self.slots[worker].load, threads)

    @invariant()
    def never_more_than_there_are(self) -> None:
        used = [self.most(worker) for worker in range(WORKERS)]
        assert sum(used) <= TOTAL
        for slots, own in zip(self.slots, used, strict=True):
            assert self.cores.free_for(slots) == TOTAL - sum(used) + own
            assert self.cores.has_one_for(slots) == (sum(used) - own < TOTAL)


TestCores = CoresMachine.TestCase


def test_work_that_does_not_share_the_cores_can_always_start() -> None:
    cores, busy = Cores(1), slots()
    cores.grant(busy.load, 1)
    assert not cores.has_one_for(slots())
    assert cores.has_one_for(slots(shares_cores=False))
    assert cores.has_one_for(busy)


def test_where_a_gpu_computes_nothing_is_counted() -> None:
    assert Cores(0).has_one_for(slots())


def test_a_worker_is_idle_while_it_runs_and_computes_nothing() -> None:
    async def scenario() -> None:
        worker = FakeWorker(lambda _: 0)
        idle = BatchSlots(worker)
        found = [idle.idle]
        idle.load.in_flight += 1
        found.append(idle.idle)
        idle.load.in_flight -= 1
        worker.running = False
        found.append(idle.idle)
        assert found == [True, False, False]

    asyncio.run(scenario())
