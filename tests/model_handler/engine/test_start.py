"""What the engine answers before its first device worker is ready."""

import asyncio
from dataclasses import replace
from pathlib import Path

import pytest

from model_handler.errors import ModelAlreadyLoaded, ModelLoadFailed, ModelNotFound
from model_handler.options import EngineOptions
from tests.contract.artifacts import Zoo
from tests.model_handler.engine.test_engine import TEXT
from tests.model_handler.fake_engine import FakeEngine
from tests.model_handler.fake_supervisor import turns

FIGURES = (
    "mme_models_loaded 0.0",
    "mme_requests_waiting 0.0",
    "mme_batches_running 0.0",
    'mme_memory_capacity_bytes{tier="device"} 0.0',
    'mme_memory_reserved_bytes{tier="host"} 0.0',
)


@pytest.fixture(scope="module")
def zoo(tmp_path_factory: pytest.TempPathFactory) -> Zoo:
    return Zoo(tmp_path_factory.mktemp("models"))


@pytest.fixture(scope="module")
def options(zoo: Zoo) -> EngineOptions:
    return EngineOptions(model_roots=(zoo.root,), device="cpu")


def test_it_answers_and_has_no_models(options: EngineOptions) -> None:
    async def scenario() -> None:
        async with FakeEngine(options).engine as engine:
            assert engine.health() is None
            assert engine.models() == []
            for ask in (engine.model, engine.resolve):
                with pytest.raises(ModelNotFound):
                    ask("a")
            with pytest.raises(ModelNotFound):
                await engine.invoke("a", TEXT)
            with pytest.raises(ModelNotFound):
                await engine.unload("a")
            published = engine.exposition().decode().splitlines()
            assert set(FIGURES) <= set(published)
            engine.drain()
            assert engine.health() == "draining"
            await engine.idle()

    asyncio.run(scenario())


def test_loads_and_their_requests_wait_for_the_worker(zoo: Zoo, options: EngineOptions) -> None:
    """The name is taken from the start of the load."""

    async def scenario() -> None:
        fake = FakeEngine(options)
        async with fake.engine as engine:
            load = asyncio.create_task(engine.load("a", str(zoo.a)))
            await turns()
            with pytest.raises(ModelAlreadyLoaded, match="loading"):
                await engine.load("a", str(zoo.a))
            answer = asyncio.create_task(engine.invoke("a", TEXT))
            await turns()
            assert not load.done()
            assert not answer.done()
            assert fake.names() == []
            fake.main.arrive()
            await fake.go_on_until(answer.done)
            await load
            assert answer.result().body.startswith(b"1:")
            assert fake.names() == ["a"]

    asyncio.run(scenario())


def test_a_load_waits_within_its_limit(options: EngineOptions, tmp_path: Path) -> None:
    async def scenario() -> None:
        async with FakeEngine(replace(options, load_timeout_s=0.01)).engine as engine:
            with pytest.raises(ModelLoadFailed, match=r"loading took longer than 0\.01 s"):
                await engine.load("a", str(tmp_path))
            with pytest.raises(ModelNotFound):
                await engine.invoke("a", TEXT)

    asyncio.run(scenario())
