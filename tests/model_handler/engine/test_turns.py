"""On a busy device models get device time in proportion to their weights, whatever their batches cost."""

import asyncio
from collections import Counter

import pytest

from model_handler.engine.admission import QueueBounds
from model_handler.engine.metrics import Metrics
from model_handler.engine.queues import BatchSlots, Job, WorkQueue
from model_handler.engine.scheduler import Scheduler
from model_handler.memory.residency import Residency
from model_handler.messages import InferenceRequest
from tests.model_handler.engine.test_scheduling import SIZES, model
from tests.model_handler.fake_worker import FakeWorker
from tests.model_handler.memory.test_moves import opened, story, turns

HEAVY, LIGHT = 1, 2
COST_S = {HEAVY: 0.09, LIGHT: 0.01}


async def both_loaded(worker: FakeWorker, residency: Residency) -> None:
    for key in COST_S:
        loading = asyncio.create_task(residency.admit(model(key), SIZES[key]))
        await turns()
        worker.let_go(0)
        await loading


def submit(scheduler: Scheduler, key: int) -> "asyncio.Task[object]":
    loop = asyncio.get_running_loop()
    job = Job(InferenceRequest(b""), loop.time() + 60, loop.create_future())
    return asyncio.create_task(scheduler.submit(model(key), job))


@pytest.mark.parametrize("depth", [1, 2])
@pytest.mark.parametrize(("weight", "batches"), [(1, 90), (9, 50)])
def test_the_share_of_light_batches(weight: int, batches: int, depth: int) -> None:
    """Share of a hundred batches. `weight`: the weight of the model with the heavy batches."""

    async def scenario() -> None:
        worker, residency = opened(host=None)
        worker.forward_s = COST_S
        await both_loaded(worker, residency)
        scheduler = Scheduler({"": residency}, Metrics())
        slots = BatchSlots(worker, depth)
        lane = WorkQueue(slots)
        for key in COST_S:
            bounds = QueueBounds(200, 1, weight=weight if key == HEAVY else 1)
            scheduler.open(model(key), lane, slots, bounds)
        waiting = [submit(scheduler, key) for _ in range(100) for key in COST_S]
        await turns()
        ran: Counter[int] = Counter()
        for _ in range(100):
            ran[worker.calls[0].model_id] += 1
            worker.let_go(0)
            await turns()
        assert ran[LIGHT] == pytest.approx(batches, abs=4)
        while worker.calls:
            worker.let_go(0)
            await turns()
        await asyncio.gather(*waiting)

    story(scenario())


def test_a_lane_with_one_batch_of_each_model() -> None:
    async def scenario() -> None:
        worker, residency = opened(host=None)
        await both_loaded(worker, residency)
        scheduler = Scheduler({"": residency}, Metrics())
        slots = BatchSlots(worker, depth=2, each=1)
        lane = WorkQueue(slots)
        for key in COST_S:
            scheduler.open(model(key), lane, slots, QueueBounds(200, 1))
        waiting = [submit(scheduler, HEAVY), submit(scheduler, HEAVY), submit(scheduler, LIGHT)]
        await turns()
        assert [call.model_id for call in worker.calls] == [HEAVY, LIGHT]
        for expected in ([LIGHT, HEAVY], [HEAVY], []):
            worker.let_go(0)
            await turns()
            assert [call.model_id for call in worker.calls] == expected
        await asyncio.gather(*waiting)

    story(scenario())
