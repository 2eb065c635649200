"""Wide forwards of one kind of work do not keep the cores from other kinds, nor from other workers."""

import asyncio
from collections.abc import Coroutine
from typing import Any

import pytest

from model_handler.engine.admission import QueueBounds
from model_handler.engine.queues import Job
from model_handler.messages import InferenceRequest
from model_handler.model import Model, State
from tests.model_handler.engine.several_workers import Workers, model

SHORT, GENERATING = 1, 5
WIDE_S = 0.05
ROUNDS = 50


async def turns(count: int = 30) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


async def loaded(workers: Workers, key: int) -> Model:
    one = model(key)
    load = asyncio.create_task(workers.core.admit(one, QueueBounds(1000, 8)))
    while not load.done():
        go_on(workers)
        await asyncio.sleep(0)
    load.result()
    one.entry.become(State.READY)
    return one


def go_on(workers: Workers) -> None:
    for worker in workers.all:
        while worker.calls:
            worker.let_go(0)


def ask(workers: Workers, one: Model) -> "asyncio.Task[Any]":
    loop = asyncio.get_running_loop()
    job = Job(InferenceRequest(b"x", "text/plain"), loop.time() + 60, loop.create_future())
    return asyncio.create_task(workers.core.scheduler.submit(one, job))


def computing(workers: Workers, one: Model) -> bool:
    return any(
        call.kind == "run" and call.model_id == one.model_id
        for worker in workers.all
        for call in worker.calls
    )


async def started() -> Workers:
    workers = Workers(["cpu", "cpu"], 2, None, lambda *_: None)
    await workers.start_all()
    await turns()
    for worker in workers.all:
        worker.forward_s = dict.fromkeys((SHORT, GENERATING, 2), WIDE_S)
    return workers


async def finish_batches(workers: Workers, one: Model) -> None:
    """End the batches of a model that always has more requests."""
    for worker in workers.all:
        for call in [each for each in worker.calls if each.model_id == one.model_id]:
            worker.calls.remove(call)
            call.go_on.set_result(None)
            ask(workers, one)
            ask(workers, one)
            await turns()


async def finished(workers: Workers) -> None:
    """All requests have their answers."""
    scheduler = workers.core.scheduler
    while scheduler.waiting() or scheduler.running():
        go_on(workers)
        await turns()


@pytest.mark.parametrize(("hot", "other"), [(SHORT, GENERATING), (GENERATING, SHORT)])
def test_a_saturated_model_leaves_a_core_to_the_other_kind_of_work(hot: int, other: int) -> None:
    async def scenario() -> None:
        workers = await started()
        first, second = await loaded(workers, hot), await loaded(workers, other)
        for _ in range(20):
            ask(workers, first)
        for _ in range(5):
            await turns()
            await finish_batches(workers, first)
        ask(workers, second)
        for _ in range(ROUNDS):
            await turns()
            if computing(workers, second):
                break
            await finish_batches(workers, first)
        assert computing(workers, second)
        await finished(workers)

    run(scenario())


def test_a_model_in_a_process_of_its_own_gets_the_core_that_another_frees() -> None:
    async def scenario() -> None:
        workers = await started()
        neighbour, _, apart = [await loaded(workers, key) for key in (SHORT, GENERATING, 2)]
        apart.strikes = 1
        lost = workers.all[0]
        lost.culprit = apart.model_id
        lost.die()
        for _ in range(ROUNDS):
            await turns(3)
            for worker in workers.to_start:
                worker.arrive()
            go_on(workers)
        assert len(workers.all) == 3
        ask(workers, neighbour)
        await turns()
        go_on(workers)
        await turns()
        ask(workers, neighbour)
        await turns()
        answer = ask(workers, apart)
        await turns()
        go_on(workers)
        await turns(200)
        assert answer.done() or computing(workers, apart)
        await finished(workers)

    run(scenario())


def run(scenario: Coroutine[Any, Any, None]) -> None:
    asyncio.run(scenario)
