"""A batch that waits for more requests starts when its delay is over, on the event loop of the container."""

import asyncio
from collections.abc import Awaitable

import pytest
import uvloop

from model_handler.engine.admission import QueueBounds
from model_handler.engine.metrics import Metrics
from model_handler.engine.queues import BatchSlots, Job, WorkQueue
from model_handler.engine.scheduler import Scheduler
from model_handler.memory.pools import Footprint
from model_handler.memory.residency import Residency
from model_handler.messages import Done, InferenceRequest, InferenceResponse, Run
from model_handler.model import Model
from tests.model_handler.engine.test_scheduling import model

REQUESTS = 60
LIMIT_S = 5.0
ANSWER = InferenceResponse(b"1", "application/json")


class AtOnce:
    """A worker that answers immediately."""

    running, failing = True, False

    async def load(self, model: Model) -> Footprint:
        return Footprint(1)

    async def demote(self, model: Model) -> int:
        return 0

    unload = demote

    async def trim(self) -> int | None:
        return None

    def end(self, model: Model, reason: str) -> None:
        raise AssertionError(reason)

    async def _done(self, command: Run) -> Done:
        return Done(command.batch_id, [ANSWER] * len(command.requests), 0.0, 0.0)

    def run(self, command: Run) -> Awaitable[Done]:
        return self._done(command)

    def replace(self, reason: str, culprit: int = 0) -> None:
        raise AssertionError(reason)


async def lone_requests(delay_s: float) -> None:
    worker, loop = AtOnce(), asyncio.get_running_loop()
    residency = Residency(worker, 10, None)
    scheduler = Scheduler({"": residency}, Metrics())
    one = model(1)
    await residency.admit(one, 1)
    slots = BatchSlots(worker)
    scheduler.open(one, WorkQueue(slots), slots, QueueBounds(4, 2, delay_s))
    for _ in range(REQUESTS):
        job = Job(InferenceRequest(b"{}"), loop.time() + LIMIT_S, loop.create_future())
        async with asyncio.timeout(LIMIT_S):
            assert await scheduler.submit(one, job) == ANSWER


@pytest.mark.parametrize("delay_ms", [1, 5, 7, 20])
def test_a_lone_request_starts_after_the_delay(delay_ms: int) -> None:
    """uvloop's clock has whole milliseconds: by rounding, a timer may end a little before its time."""
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(lone_requests(delay_ms / 1000))
