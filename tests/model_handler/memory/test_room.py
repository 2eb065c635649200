"""Memory accounting of a GPU: limits learned from out-of-memory errors, and the pool of each byte."""

import asyncio

import pytest

from model_handler.engine.admission import QueueBounds
from model_handler.engine.metrics import Metrics
from model_handler.engine.queues import BatchSlots, Job, WorkQueue
from model_handler.engine.scheduler import Scheduler
from model_handler.errors import InsufficientMemory
from model_handler.memory.overheads import Overhead
from model_handler.memory.pools import Footprint
from model_handler.memory.residency import Residency
from model_handler.messages import InferenceRequest
from tests.model_handler.engine.test_scheduling import (
    ISOLATED,
    ON_CPU,
    SIZES,
    host_pool,
    model,
)
from tests.model_handler.fake_worker import FakeWorker
from tests.model_handler.memory.test_moves import loaded, story, turns

BUDGET = 200


class Device:
    """A device with less memory than its budget."""

    def __init__(self, nbytes: int, host: int = 250, budget: int = BUDGET) -> None:
        self.nbytes = nbytes
        self.worker = FakeWorker(lambda one: SIZES[one.model_id], free_nbytes=self.free)
        self.residency = Residency(self.worker, budget, host_pool(host))

    def free(self) -> int:
        return self.nbytes - sum(SIZES[key] for key in self.worker.held)

    async def load(self, *keys: int) -> None:
        for key in keys:
            await loaded(self.worker, self.residency, key)


async def vacated(device: Device, key: int) -> None:
    task = asyncio.create_task(device.residency.vacate(model(key)))
    await turns()
    device.worker.let_go(0)
    await task


def test_a_budget_larger_than_the_device_is_corrected() -> None:
    """The load that reaches the real limit succeeds after the demotion of an idle model."""

    async def scenario() -> None:
        device = Device(nbytes=120)
        await device.load(4, 3)
        await device.load(2)
        assert len(device.worker.held) == 2
        assert 2 in device.worker.held
        assert device.residency.device.capacity <= 120
        await device.load(1)
        assert 1 in device.worker.held

    story(scenario())


def test_a_learned_limit_rises_when_memory_is_released() -> None:
    async def scenario() -> None:
        device = Device(nbytes=120, host=0)
        await device.load(4, 3)
        with pytest.raises(InsufficientMemory):
            await device.load(2)
        device.nbytes = BUDGET
        await device.load(2)
        assert device.worker.held == {2, 3, 4}

    story(scenario())


def test_a_load_without_idle_models_to_demote_is_refused() -> None:
    async def scenario() -> None:
        device = Device(nbytes=50)
        with pytest.raises(InsufficientMemory):
            await device.load(4)
        assert device.residency.device.reserved == 0
        await device.load(1)

    story(scenario())


async def asked(scheduler: Scheduler, worker: FakeWorker, key: int) -> bytes:
    loop = asyncio.get_running_loop()
    job = Job(InferenceRequest(b"?"), loop.time() + 60, loop.create_future())
    task = asyncio.create_task(scheduler.submit(model(key), job))
    while not task.done():
        await turns()
        if worker.calls:
            worker.let_go(0)
    return task.result().body


async def served(device: Device, *keys: int) -> Scheduler:
    await device.load(*keys)
    scheduler = Scheduler({"": device.residency}, Metrics())
    for key in keys:
        slots = BatchSlots(device.worker)
        scheduler.open(model(key), WorkQueue(slots), slots, QueueBounds(4, 2))
    return scheduler


def test_a_forward_without_memory_is_repeated_after_demoting_an_idle_model() -> None:
    async def scenario() -> None:
        device = Device(nbytes=120)
        scheduler = await served(device, 3, 1)
        device.worker.starved = True
        assert await asked(scheduler, device.worker, 1) == b"1:?"
        assert device.worker.held == {1}
        assert device.residency.device.capacity < SIZES[1] + SIZES[3]

    story(scenario())


def test_a_forward_without_memory_fails_if_no_model_can_be_demoted() -> None:
    async def scenario() -> None:
        device = Device(nbytes=120)
        scheduler = await served(device, 3)
        device.worker.starved = True
        with pytest.raises(InsufficientMemory, match="more memory than the device has left"):
            await asked(scheduler, device.worker, 3)
        assert await asked(scheduler, device.worker, 3) == b"3:?"

    story(scenario())


def test_memory_of_a_model_on_the_device_is_not_counted_to_the_host() -> None:
    """A device with more memory than main memory can still be filled."""

    async def scenario() -> None:
        device = Device(nbytes=BUDGET, host=10)
        await device.load(4, 3, 2, 1)
        assert device.residency.device.reserved == sum(SIZES[key] for key in (4, 3, 2, 1))
        assert device.residency.host is not None
        assert device.residency.host.reserved == 0

    story(scenario())


def test_a_promotion_may_evict_others_from_main_memory() -> None:
    """Loaded models are always served; they are read from disk if main memory is too small."""

    async def scenario() -> None:
        device = Device(nbytes=BUDGET, host=SIZES[4], budget=100)
        await device.load(4, 3)
        assert device.residency.host is not None
        assert device.residency.host.reserved == SIZES[4]
        returning = asyncio.create_task(device.residency.promote(model(4)))
        while not returning.done():
            await turns()
            if device.worker.calls:
                device.worker.let_go(0)
        assert (device.worker.held, device.worker.demoted) == ({4}, {3})
        assert device.residency.host.reserved == SIZES[3]

    story(scenario())


def test_a_model_on_the_cpu_is_counted_to_main_memory() -> None:
    async def scenario() -> None:
        device = Device(nbytes=BUDGET, host=30)
        await device.load(ON_CPU)
        host = device.residency.host
        assert host is not None
        assert (device.residency.device.reserved, host.reserved) == (0, SIZES[ON_CPU])
        await vacated(device, ON_CPU)
        assert host.reserved == 0
        device = Device(nbytes=BUDGET, host=SIZES[ON_CPU] - 1)
        with pytest.raises(InsufficientMemory, match="host"):
            await device.load(ON_CPU)

    story(scenario())


def test_an_isolated_model_is_charged_for_its_growth() -> None:
    """Idle models are demoted to make room for it; if that is not enough, its process is ended."""

    async def scenario() -> None:
        device = Device(nbytes=BUDGET, host=100)
        await device.load(ISOLATED, 4, 5)
        residency = device.residency
        residency.remeasure(model(ISOLATED), Footprint(100, 60))
        while device.worker.calls or residency.device.reserved != 100 + SIZES[4]:
            await turns()
            if device.worker.calls:
                device.worker.let_go(0)
        assert ISOLATED in device.worker.held
        residency.remeasure(model(ISOLATED), Footprint(100, 60))
        await turns()
        assert residency.host is not None
        assert residency.host.reserved == 60
        residency.remeasure(model(ISOLATED), Footprint(BUDGET + 1, 0))
        await turns()
        assert "grew to 201 bytes" in device.worker.replaced[0]

    story(scenario())


def test_a_process_is_charged_once_for_all_its_models() -> None:
    async def scenario() -> None:
        device = Device(nbytes=BUDGET)
        context = Overhead("graphs", 15)
        for key in (1, 2):
            task = asyncio.create_task(device.residency.admit(model(key), SIZES[key], context))
            await turns()
            device.worker.let_go(0)
            await task
        weights = SIZES[1] + SIZES[2]
        assert device.residency.device.reserved == weights + 15
        for key, left in ((1, SIZES[2] + 15), (2, 0)):
            await vacated(device, key)
            assert device.residency.device.reserved == left

    story(scenario())
