"""A ledger with a fake worker and a clock that the test moves."""

import asyncio
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from model_handler.memory.residency import Residency
from model_handler.model import Model
from tests.model_handler.engine.test_scheduling import CAPACITY, SIZES, host_pool, model
from tests.model_handler.fake_worker import FakeWorker
from tests.model_handler.virtual_time import VirtualLoop

HOST = 250


class Scene:
    def __init__(self, host: int | None, budget: int) -> None:
        self.loop = VirtualLoop()
        self.mistakes: list[dict[str, Any]] = []
        self.loop.set_exception_handler(lambda _, context: self.mistakes.append(context))
        self.worker = FakeWorker(lambda one: SIZES[one.model_id])
        self.residency = Residency(self.worker, budget, host_pool(host))
        self.device = self.residency.device

    def start(self, work: Any, turns: int = 40) -> "asyncio.Task[Any]":
        task = self.loop.create_task(work)
        self.loop.turns(turns)
        return task

    def finish(self, work: Any) -> "asyncio.Task[Any]":
        """Start it, and let the worker do all that it is asked for."""
        task = self.start(work)
        while self.worker.calls:
            self.worker.let_go(0)
            self.loop.turns()
        return task

    def step(self) -> None:
        """Run what is ready, but nothing that becomes ready by that."""
        self.loop.call_soon(self.loop.stop)
        self.loop.run_forever()

    def load(self, *keys: int) -> list[Model]:
        models = [model(key) for key in keys]
        for one in models:
            self.finish(self.residency.admit(one, SIZES[one.model_id])).result()
        return models

    def lose(self, *models: Model) -> None:
        self.residency.lost(models)
        self.worker.die()


Build = Callable[..., Scene]


@pytest.fixture
def build() -> Iterator[Build]:
    scenes: list[Scene] = []

    def build(host: int | None = HOST, budget: int = CAPACITY) -> Scene:
        scenes.append(Scene(host, budget))
        return scenes[-1]

    yield build
    for scene in scenes:
        scene.loop.close()
        assert not scene.mistakes
        assert not scene.worker.broken


@pytest.fixture
def scene(build: Build) -> Scene:
    return build()
