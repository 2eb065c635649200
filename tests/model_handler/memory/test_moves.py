"""Single scenarios of moves and batches; the state machine in `test_scheduling` covers random ones."""

import asyncio
from collections.abc import Coroutine
from typing import Any

import pytest

from model_handler.engine.admission import QueueBounds
from model_handler.engine.metrics import Metrics
from model_handler.engine.queues import BatchSlots, Job, WorkQueue
from model_handler.engine.scheduler import Scheduler
from model_handler.errors import InsufficientMemory, ModelLoadFailed
from model_handler.memory.eviction import POLICIES
from model_handler.memory.residency import Residency
from model_handler.messages import InferenceRequest
from tests.model_handler.engine.test_scheduling import (
    CAPACITY,
    ISOLATED,
    SIZES,
    host_pool,
    model,
)
from tests.model_handler.fake_worker import FakeWorker


def story(work: Coroutine[Any, Any, None]) -> None:
    asyncio.run(work)


async def turns() -> None:
    for _ in range(40):
        await asyncio.sleep(0)


def opened(host: int | None) -> tuple[FakeWorker, Residency]:
    worker = FakeWorker(lambda one: SIZES[one.model_id])
    residency = Residency(worker, CAPACITY, host_pool(host))
    return worker, residency


async def loaded(worker: FakeWorker, residency: Residency, key: int) -> None:
    task = asyncio.create_task(residency.admit(model(key), SIZES[key]))
    while not task.done():
        await turns()
        if worker.calls:
            worker.let_go(0)
    task.result()


def test_two_loads_that_fit_singly_but_not_together() -> None:
    async def scenario() -> None:
        worker, residency = opened(host=None)
        first = asyncio.create_task(residency.admit(model(4), SIZES[4]))
        second = asyncio.create_task(residency.admit(model(3), SIZES[3]))
        await turns()
        assert second.done()
        with pytest.raises(InsufficientMemory):
            second.result()
        worker.let_go(0)
        await first
        assert residency.device.reserved == SIZES[4]

    story(scenario())


def test_a_full_device_demotes_idle_models_before_it_refuses_a_load() -> None:
    async def scenario() -> None:
        worker, residency = opened(host=100)
        for key in (4, 3):
            await loaded(worker, residency, key)
        assert (worker.held, worker.demoted) == ({3}, {4})
        assert residency.host is not None
        assert residency.host.reserved == SIZES[4]
        with pytest.raises(InsufficientMemory, match="host"):
            await residency.admit(model(5), SIZES[5])
        assert worker.held == {3}

    story(scenario())


def test_a_load_that_fails_leaves_nothing() -> None:
    async def scenario() -> None:
        worker, residency = opened(host=250)
        worker.load_error = ModelLoadFailed("corrupt")
        task = asyncio.create_task(residency.admit(model(1), SIZES[1]))
        await turns()
        worker.let_go(0)
        with pytest.raises(ModelLoadFailed):
            await task
        assert residency.device.reserved == 0
        assert residency.host is not None
        assert residency.host.reserved == 0

    story(scenario())


def test_measured_bytes_that_do_not_fit_end_the_load() -> None:
    async def scenario() -> None:
        worker = FakeWorker(lambda _: CAPACITY + 1)
        residency = Residency(worker, CAPACITY, None)
        task = asyncio.create_task(residency.admit(model(1), 10))
        await turns()
        worker.let_go(0)
        await turns()
        assert worker.busy("unload", 1)
        worker.let_go(0)
        with pytest.raises(InsufficientMemory):
            await task
        assert residency.device.reserved == 0

    story(scenario())


async def served(worker: FakeWorker, residency: Residency, bounds: QueueBounds) -> Scheduler:
    """A scheduler with model 1 loaded."""
    scheduler = Scheduler({"": residency}, Metrics())
    loading = asyncio.create_task(residency.admit(model(1), SIZES[1]))
    await turns()
    worker.let_go(0)
    await loading
    slots = BatchSlots(worker)
    scheduler.open(model(1), WorkQueue(slots), slots, bounds)
    return scheduler


def submitted(scheduler: Scheduler, left_s: float = 60.0) -> asyncio.Task[Any]:
    loop = asyncio.get_running_loop()
    job = Job(InferenceRequest(b""), loop.time() + left_s, loop.create_future())
    return asyncio.create_task(scheduler.submit(model(1), job))


def test_the_worker_of_a_batch_that_never_ends_is_replaced() -> None:
    async def scenario() -> None:
        worker, residency = opened(host=None)
        scheduler = await served(worker, residency, QueueBounds(4, 2))
        answer = submitted(scheduler, left_s=-3600.0)
        await turns()
        await turns()
        assert worker.replaced
        worker.let_go(0)
        await answer

    story(scenario())


def test_a_batch_waits_for_more_requests_up_to_its_delay() -> None:
    """It does not wait longer than until it is full."""

    async def scenario() -> None:
        worker, residency = opened(host=None)
        scheduler = await served(worker, residency, QueueBounds(4, 2, delay_s=3600.0))
        first = submitted(scheduler)
        await turns()
        assert not worker.calls
        second = submitted(scheduler)
        await turns()
        assert len(worker.calls) == 1
        worker.let_go(0)
        await asyncio.gather(first, second)

    story(scenario())


def test_a_request_runs_alone_after_the_delay() -> None:
    async def scenario() -> None:
        worker, residency = opened(host=None)
        scheduler = await served(worker, residency, QueueBounds(4, 2, delay_s=0.01))
        answer = submitted(scheduler)
        while not worker.calls:
            await turns()
        worker.let_go(0)
        await answer

    story(scenario())


def test_no_model_chosen_for_demotion_can_be_leased() -> None:
    """Two models make room for a large one; the second cannot be leased while the first is being demoted."""

    async def scenario() -> None:
        worker, residency = opened(host=250)
        for key in (1, 3):
            await loaded(worker, residency, key)
        coming = asyncio.create_task(residency.admit(model(5), SIZES[5]))
        await turns()
        assert not residency.residence(model(1)).leasable
        assert not residency.residence(model(3)).leasable
        while not coming.done():
            worker.let_go(0)
            await turns()
        assert worker.held == {5}

    story(scenario())


def test_a_promotion_after_a_lost_device_does_not_count_as_a_use() -> None:
    """After two losses, the models are promoted in the same order: the most recently used first."""

    async def scenario() -> None:
        worker, residency = opened(host=250)
        for key in (1, 3):
            await loaded(worker, residency, key)
        for _ in range(2):
            residency.lost(residency.models())
            worker.held.clear()
            order = residency.displaced()
            assert [one.model_id for one in order] == [3, 1]
            for one in order:
                returning = asyncio.create_task(residency.promote(one))
                await turns()
                worker.let_go(0)
                await returning

    story(scenario())


async def vacated(worker: FakeWorker, residency: Residency, key: int) -> None:
    task = asyncio.create_task(residency.vacate(model(key)))
    while not task.done():
        await turns()
        if worker.calls:
            worker.let_go(0)
    task.result()


def test_a_model_that_outgrew_the_device_after_a_crash_leaves_nothing_in_its_worker() -> None:
    """It arrives, is larger than before, and is demoted again: its worker keeps its modules."""

    async def scenario() -> None:
        worker, residency = opened(host=250)
        await loaded(worker, residency, 1)
        residency.lost(residency.models())
        worker.die()
        worker.nbytes = lambda _: CAPACITY + 1
        returning = asyncio.create_task(residency.promote(model(1)))
        while not returning.done():
            await turns()
            if worker.calls:
                worker.let_go(0)
        assert isinstance(returning.exception(), InsufficientMemory)
        assert worker.demoted == {1}
        await vacated(worker, residency, 1)
        assert not worker.demoted

    story(scenario())


def test_a_promotion_that_fails_leaves_nothing_in_its_worker() -> None:
    """The worker keeps the modules for the next attempt; an unload frees them."""

    async def scenario() -> None:
        worker, residency = opened(host=250)
        for key in (4, 3):
            await loaded(worker, residency, key)
        assert worker.demoted == {4}
        worker.load_error = ModelLoadFailed("the file has gone")
        returning = asyncio.create_task(residency.promote(model(4)))
        while not returning.done():
            await turns()
            if worker.calls:
                worker.let_go(0)
        assert isinstance(returning.exception(), ModelLoadFailed)
        assert worker.demoted == {3, 4}
        await vacated(worker, residency, 4)
        assert worker.demoted == {3}

    story(scenario())


def test_no_model_is_demoted_for_one_that_cannot_fit() -> None:
    """Model 5 cannot fit beside the isolated model, which is never demoted."""

    async def scenario() -> None:
        worker, residency = opened(host=250)
        for key in (ISOLATED, 3):
            await loaded(worker, residency, key)
        loading = asyncio.create_task(residency.admit(model(5), SIZES[5]))
        await turns()
        assert loading.done()
        with pytest.raises(InsufficientMemory, match="device"):
            loading.result()
        assert worker.held == {ISOLATED, 3}

    story(scenario())


@pytest.mark.parametrize(("policy", "left"), [("lru", 1), ("gdsf", 3)])
def test_the_policy_chooses_the_evicted_model(policy: str, left: int) -> None:
    """Model 1 is small and the least recently used, model 3 is larger; either one would make room."""

    async def scenario() -> None:
        worker = FakeWorker(lambda one: SIZES[one.model_id])
        residency = Residency(worker, CAPACITY, host_pool(250), POLICIES[policy])
        for key in (1, 3, 2):
            await loaded(worker, residency, key)
        assert {1, 2, 3} - worker.held == {left}

    story(scenario())
