"""What a request holds while it waits, and what it leaves when its client goes."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from model_handler.engine import scheduler as scheduling
from model_handler.engine.admission import QueueBounds
from model_handler.engine.metrics import Metrics
from model_handler.engine.queues import BatchSlots, Job, WorkQueue
from model_handler.engine.scheduler import Scheduler
from model_handler.errors import QueueFull
from model_handler.memory.residency import Residency
from model_handler.messages import InferenceRequest, InferenceResponse
from tests.model_handler import ledger
from tests.model_handler.engine.test_scheduling import Pair, model
from tests.model_handler.fake_supervisor import turns


class Served:
    """One loaded model, whose batches wait until `let_go`."""

    def __init__(self, limit: int = 10) -> None:
        self.workers = Pair()
        self.slots = BatchSlots(self.workers.shared, depth=1)
        self.queue = WorkQueue(self.slots)
        self.residency = Residency(self.workers, 100, None)
        self.scheduler = Scheduler({"": self.residency}, Metrics())
        self.model = model(1)
        self.limit = limit

    async def open(self) -> None:
        load = asyncio.create_task(self.residency.admit(self.model, 30))
        await turns()
        self.workers.shared.let_go(0)
        await load
        self.scheduler.open(self.model, self.queue, self.slots, QueueBounds(self.limit, 1))

    def ask(self, body: bytes, *headers: tuple[bytes, bytes]) -> "asyncio.Task[InferenceResponse]":
        loop = asyncio.get_running_loop()
        job = Job(InferenceRequest(body, headers=headers), loop.time() + 60, loop.create_future())
        return asyncio.create_task(self.scheduler.submit(self.model, job))


def played(scenario: Callable[[Served], Coroutine[Any, Any, None]]) -> None:
    async def opened() -> None:
        served = Served()
        await served.open()
        await scenario(served)

    asyncio.run(opened())


def test_an_unload_does_not_wait_for_a_client_that_has_gone() -> None:
    async def scenario(served: Served) -> None:
        first, waiting = served.ask(b"1"), served.ask(b"2")
        await turns()
        drained = asyncio.create_task(served.scheduler.drained(served.model))
        waiting.cancel()
        await turns()
        assert not served.queue.turns.inside
        served.workers.shared.let_go(0)
        await turns()
        assert drained.done()
        assert (await first).body == b"1:1"

    played(scenario)


def test_requests_are_held_up_to_exactly_the_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scheduling, "MAX_HELD_NBYTES", 100)

    async def scenario(served: Served) -> None:
        tasks = [served.ask(b"x" * 50), served.ask(b"x" * 40, (b"name", b"sixty!"))]
        await turns()
        assert ledger.queued_nbytes(served.scheduler) == 100
        with pytest.raises(QueueFull, match="100 bytes"):
            await served.ask(b"1")
        assert ledger.queued_nbytes(served.scheduler) == 100
        empty = served.ask(b"")
        for _ in range(3):
            await turns()
            served.workers.shared.let_go(0)
        await asyncio.gather(*tasks, empty)
        assert ledger.queued_nbytes(served.scheduler) == 0

    played(scenario)


def test_a_refused_request_is_not_counted() -> None:
    async def scenario(served: Served) -> None:
        tasks = [served.ask(b"x" * 10)]
        await turns()
        tasks += [served.ask(b"x" * 10) for _ in range(10)]
        await turns()
        with pytest.raises(QueueFull, match="10 requests"):
            await served.ask(b"x" * 10)
        assert ledger.queued_nbytes(served.scheduler) == 110
        for task in tasks:
            task.cancel()
        await turns()
        assert ledger.queued_nbytes(served.scheduler) == 10  # it is in a batch

    played(scenario)
