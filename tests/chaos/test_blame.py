"""Models without code that end or block their worker: they go on in a process of their own, the others stay.

A crash: the weights are a mapped file; it is renamed, replaced by a whole copy and truncated, so that the
next batch is a SIGBUS, and a restored model is sound. A block: TorchScript that never ends.
"""

import asyncio
import dataclasses
import json
import os
import shutil
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from model_handler.engine import factory
from model_handler.errors import DeadlineExceeded, EngineError, WorkerDied
from model_handler.messages import InferenceRequest
from tests.chaos.running_engine import PATIENCE_S, RunningEngine
from tests.chaos.test_workers_killed import workers
from tests.contract.artifacts import Zoo
from tests.hostile.inputs.graphs import Adding, Endless, script

ROWS = json.dumps({"inputs": [[1.0, 2.0, 3.0]]}).encode()
TEXT = json.dumps({"inputs": "hello"}).encode()
RIGHT = {"first": "A", "second": "B", "sum": {"predictions": [[2.0, 3.0, 4.0]]}}
DEADLINE_S, GRACE_S = 0.6, 0.2
PAUSE_S = 0.01  # between requests, which would otherwise take a core


@pytest.fixture(scope="module")
def zoo(running: RunningEngine) -> Zoo:
    return Zoo(running.root)


def limited(
    running: RunningEngine, patch: pytest.MonkeyPatch, request_s: float, unload_s: float = 60.0
) -> None:
    options = dataclasses.replace(
        running.engine.options, request_timeout_s=request_s, unload_timeout_s=unload_s
    )
    patch.setattr(running.engine, "options", options)


async def ask(running: RunningEngine, name: str) -> Any:
    """The answer, or the class of the error."""
    body = TEXT if name in ("first", "second", "guilty") else ROWS
    try:
        response = await running.engine.invoke(name, InferenceRequest(body, "application/json"))
    except EngineError as error:
        return type(error)
    answer = json.loads(response.body)
    return answer if body is ROWS else answer[0]["label"][0]


@asynccontextmanager
async def asked(running: RunningEngine, *names: str) -> AsyncIterator[Counter[str]]:
    """Ask models during the block. The answers are right; the counter has the requests that failed with their
    worker. Nothing makes the container unhealthy."""
    failed: Counter[str] = Counter()
    over = False

    async def ask_on(name: str) -> None:
        while not over:
            answer = await ask(running, name)
            assert answer in (RIGHT[name], WorkerDied)
            failed[name] += answer is WorkerDied
            assert running.engine.health() is None
            await asyncio.sleep(PAUSE_S)

    async with asyncio.TaskGroup() as group:
        asking = [group.create_task(ask_on(name)) for name in names]
        yield failed
        over = True
        await asyncio.wait(asking)


def cut(weights: Path) -> None:
    """The mapped file, which a whole copy replaces."""
    whole = weights.with_suffix(".whole")
    weights.rename(whole)
    shutil.copyfile(whole, weights)
    os.truncate(whole, 0)
    whole.unlink()


async def crash(running: RunningEngine, name: str, weights: Path) -> None:
    cut(weights)
    assert await ask(running, name) is WorkerDied


async def once_not(running: RunningEngine, name: str, error: type[EngineError]) -> Any:
    """The first answer or error that is not this one."""
    async for answer in asked_again(running, name):
        if answer is not error:
            return answer
    raise AssertionError


async def once(running: RunningEngine, condition: Callable[[], bool]) -> None:
    """Return when it is true: processes end and start a little later than their models answer."""
    while not condition():
        await running.pid("neighbour")


async def asked_again(running: RunningEngine, name: str) -> AsyncIterator[Any]:
    while True:
        yield await ask(running, name)
        await asyncio.sleep(PAUSE_S)


def test_a_model_that_crashes_its_worker(
    running: RunningEngine, zoo: Zoo, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The worker of all is replaced once. After that the model ends its own process only; again and again,
    and it is left alone for a while."""
    limited(running, monkeypatch, PATIENCE_S)

    async def scenario() -> None:
        engine, guilty = running.engine, running.root / "guilty"
        for name, directory in (("first", zoo.a), ("second", zoo.b)):
            await engine.load(name, str(directory))
        shutil.copytree(zoo.a, guilty)
        await engine.load("guilty", str(guilty))
        shared = workers().keys()
        async with asked(running, "first", "second") as failed:
            await crash(running, "guilty", guilty / "model.safetensors")
            assert await once_not(running, "guilty", WorkerDied) == "A"
            await once(running, lambda: len(workers()) == len(shared) + 1)
            for name in ("first", "second"):
                assert await once_not(running, name, WorkerDied) == RIGHT[name]
            replaced = workers().keys()
            assert len(replaced & shared) == len(shared) - 1
            failed.clear()
            await crash(running, "guilty", guilty / "model.safetensors")
            assert await once_not(running, "guilty", WorkerDied) == "A"
            await once(running, lambda: len(workers()) == len(shared) + 1)
            assert len(workers().keys() & replaced) == len(shared)
            await crashed_until_left_alone(running, guilty / "model.safetensors")
            await once(running, lambda: workers().keys() < replaced)
            assert await once_not(running, "guilty", WorkerDied) == "A"
            assert not +failed
        for name in ("guilty", "first", "second"):
            await engine.unload(name)
        assert len(workers()) == len(shared)

    running.run(scenario())


async def crashed_until_left_alone(running: RunningEngine, weights: Path) -> None:
    message = ""
    while "next attempt" not in message:
        assert await once_not(running, "guilty", WorkerDied) == "A"
        await crash(running, "guilty", weights)
        request = asyncio.create_task(running.ask("guilty", TEXT))
        await asyncio.wait([request])
        message = str(request.exception() or "")
    assert "SIGBUS" in message


def test_a_model_whose_batch_never_ends(
    running: RunningEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It blocks other graphs until its deadline and a grace, once. In its own process an unload ends it."""
    limited(running, monkeypatch, DEADLINE_S, unload_s=0.1)
    monkeypatch.setattr(factory, "OTHERS_GRACE_S", GRACE_S)
    for name, module in (("sum", Adding()), ("endless", Endless())):
        (running.root / name).mkdir()
        script(module)(running.root / name)

    async def scenario() -> None:
        engine = running.engine
        mains = workers().keys()
        for name in ("sum", "endless"):
            await engine.load(name, str(running.root / name))
        assert await ask(running, "sum") == RIGHT["sum"]
        assert await ask(running, "endless") is DeadlineExceeded
        monkeypatch.setattr(factory, "OTHERS_GRACE_S", 60.0)
        assert await once_not(running, "endless", WorkerDied) is DeadlineExceeded
        assert await once_not(running, "sum", WorkerDied) == RIGHT["sum"]
        await once(running, lambda: len(workers()) == 2 * len(mains) + 1)
        async with asked(running, "sum") as failed, asyncio.timeout(10):
            assert await ask(running, "endless") is DeadlineExceeded
            await engine.unload("endless")
            assert not +failed
        await engine.unload("sum")
        await once(running, lambda: workers().keys() == mains)

    running.run(scenario())
