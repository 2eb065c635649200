"""A model that ends its worker: its neighbour is served, and the model goes on in a process of its own.

Its weights are a mapped file, which is truncated after the load: reading them is a SIGBUS.
"""

import asyncio
import json
import os
import shutil
from collections.abc import AsyncIterator, Coroutine, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pytest

from model_handler.engine.engine import Engine
from model_handler.engine.factory import create_engine
from model_handler.errors import EngineError, Unavailable
from model_handler.messages import InferenceRequest
from model_handler.options import EngineOptions
from tests.chaos.test_workers_killed import workers
from tests.contract.artifacts import Zoo

PATIENCE_S = 60.0
TEXT = InferenceRequest(json.dumps({"inputs": "hello"}).encode(), "application/json")


@dataclass
class Bed:
    """An engine with one worker and the neighbour of the models that are loaded by the tests."""

    engine: Engine
    runner: asyncio.Runner
    zoo: Zoo

    def run(self, work: Coroutine[Any, Any, None]) -> None:
        async def within() -> None:
            async with asyncio.timeout(PATIENCE_S):
                await work

        self.runner.run(within())

    async def load_copy(self, name: str) -> Path:
        """Load a model whose files no other model has; returns its weights."""
        directory = self.zoo.root / name
        shutil.copytree(self.zoo.b, directory)
        await self.engine.load(name, str(directory))
        return directory / "model.safetensors"

    async def status(self, name: str) -> str:
        """The label, or the class of the error."""
        try:
            answer = await self.engine.invoke(name, TEXT)
        except EngineError as error:
            return type(error).__name__
        return str(json.loads(answer.body)[0]["label"])

    async def crash(self, name: str, weights: Path) -> None:
        """End the model's process by a request. The file is whole again before the model is restored."""
        hidden = weights.with_suffix(".whole")
        shutil.copyfile(weights, hidden)
        os.truncate(weights, 0)
        assert await self.status(name) == "WorkerDied"
        shutil.copyfile(hidden, weights)

    async def served(self, name: str) -> None:
        while (await self.status(name))[0] not in "AB":
            pass

    @asynccontextmanager
    async def neighbour_asked(self) -> AsyncIterator[list[str]]:
        """The outcomes of the neighbour's requests during the block. The container stays healthy."""
        outcomes: list[str] = []

        async def ask() -> None:
            while True:
                outcomes.append(await self.status("neighbour"))
                assert self.engine.health() is None
                await asyncio.sleep(0.01)

        async with asyncio.TaskGroup() as group:
            asking = group.create_task(ask())
            yield outcomes
            asking.cancel()
        assert {one[0] for one in outcomes if one != "WorkerDied"} == {"A"}


@pytest.fixture(scope="module")
def bed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bed]:
    zoo = Zoo(tmp_path_factory.mktemp("models"))
    options = EngineOptions(model_roots=(zoo.root,), device="cpu", workers=1)
    with asyncio.Runner() as runner:
        engine = create_engine(options)
        runner.run(engine.__aenter__())
        try:
            runner.run(engine.load("neighbour", str(zoo.a)))
            yield Bed(engine, runner, zoo)
        finally:
            runner.run(engine.__aexit__(None, None, None))


def test_a_file_truncated_while_it_is_mapped(bed: Bed) -> None:
    """The worker of all is replaced once. After that, the model ends its own process only."""

    async def scenario() -> None:
        weights = await bed.load_copy("guilty")
        (shared,) = workers()
        async with bed.neighbour_asked() as outcomes:
            await bed.crash("guilty", weights)
            await bed.served("guilty")
            replaced = workers()
            assert (len(replaced), shared in replaced) == (2, False)
            died = outcomes.count("WorkerDied")
            await bed.crash("guilty", weights)
            await bed.served("guilty")
            assert len(workers().keys() & replaced.keys()) == 1
            assert outcomes.count("WorkerDied") == died
        await bed.engine.unload("guilty")
        assert len(workers()) == 1

    bed.run(scenario())


def test_a_model_that_crashes_again_and_again_is_left_alone(bed: Bed) -> None:
    """Its requests get the reason and the delay at once. After the delay, a request is the next attempt."""

    async def scenario() -> None:
        weights = await bed.load_copy("rogue")
        async with bed.neighbour_asked():
            message = ""
            while "next attempt" not in message:
                try:
                    await bed.engine.invoke("rogue", TEXT)
                except Unavailable as error:
                    message = str(error)
                else:
                    await bed.crash("rogue", weights)
            assert "SIGBUS" in message
            assert len(workers()) == 1
            await bed.served("rogue")
            assert len(workers()) == 2
        await bed.engine.unload("rogue")

    bed.run(scenario())


def test_no_process_is_moved_by_one_kill(bed: Bed) -> None:
    async def scenario() -> None:
        (worker,) = workers().values()
        worker.kill()
        await bed.served("neighbour")
        assert len(workers()) == 1
        assert psutil.pid_exists(next(iter(workers())))

    bed.run(scenario())
