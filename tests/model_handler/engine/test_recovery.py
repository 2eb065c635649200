"""Which model is blamed for a lost device, and which process carries it then. The workers are fakes."""

import asyncio
from functools import partial

import pytest

from model_handler.errors import Unavailable
from model_handler.options import EngineOptions
from tests.contract.artifacts import Zoo
from tests.model_handler.engine.test_engine import TEXT, reserved
from tests.model_handler.fake_engine import FakeEngine
from tests.model_handler.fake_supervisor import FakeSupervisor


@pytest.fixture(scope="module")
def zoo(tmp_path_factory: pytest.TempPathFactory) -> Zoo:
    return Zoo(tmp_path_factory.mktemp("models"))


@pytest.fixture(scope="module")
def options(zoo: Zoo) -> EngineOptions:
    return EngineOptions(model_roots=(zoo.root,), device="cpu")


def test_a_model_that_ends_its_workers_while_being_restored_is_given_up(
    zoo: Zoo, options: EngineOptions
) -> None:
    """Twice under suspicion is enough; the model that was restored before it stays."""

    async def scenario() -> None:
        fake = FakeEngine(options)
        supervisor = fake.main
        async with fake.engine as engine:
            supervisor.arrive()
            await fake.load("guilty", zoo.a)
            await fake.load("innocent", zoo.b)
            for _ in range(2):
                supervisor.die()
                supervisor.arrive()
                await fake.go_on_until(lambda: supervisor.busy("load", 1))
            supervisor.die()
            supervisor.arrive()
            await fake.go_on_until(lambda: bool(supervisor.held) and not supervisor.calls)
            assert fake.names() == ["innocent"]
            assert reserved(engine) == 1000

    asyncio.run(scenario())


async def lost_while_computing(fake: FakeEngine, name: str, culprit: int) -> None:
    """A request meets the end of the worker, which names the model that was computing."""
    answer = asyncio.create_task(fake.engine.invoke(name, TEXT))
    await fake.main.go_on_until(lambda: fake.main.busy("run", culprit))
    fake.main.culprit = culprit
    fake.main.die()
    with pytest.raises(Unavailable):
        await answer
    fake.main.culprit = 0
    fake.main.arrive()


def settled(worker: FakeSupervisor, model_id: int) -> bool:
    """It holds that model, and nothing is under way."""
    return model_id in worker.held and not worker.calls


def test_a_model_that_loses_the_device_twice_goes_on_alone(
    zoo: Zoo, options: EngineOptions
) -> None:
    """Its neighbour stays where it is, and is not blamed for being restored meanwhile."""

    async def scenario() -> None:
        fake = FakeEngine(options)
        async with fake.engine as engine:
            fake.main.arrive()
            await fake.load("guilty", zoo.a)
            await fake.load("innocent", zoo.b)
            for _ in range(2):
                await lost_while_computing(fake, "guilty", 1)
                await fake.go_on_until(partial(settled, fake.main, 2))
            own = fake.supervisors[-1]
            await fake.go_on_until(lambda: own.held == {1})
            assert (fake.main.held, own.held) == ({2}, {1})
            answer = asyncio.create_task(engine.invoke("guilty", TEXT))
            await fake.go_on_until(answer.done)
            assert answer.result().body.startswith(b"1:")
            unload = asyncio.create_task(engine.unload("guilty"))
            await fake.go_on_until(unload.done)
            assert own.stopped
            assert fake.names() == ["innocent"]
            assert reserved(engine) == 1000

    asyncio.run(scenario())


def test_on_a_gpu_graphs_have_a_process_for_themselves(zoo: Zoo, options: EngineOptions) -> None:
    """One for all of them, charged with its context, and ended with the last."""

    async def scenario() -> None:
        fake = FakeEngine(options, device="cuda:0")
        graph = zoo.root / "graph" / "model"
        graph.mkdir(parents=True)
        (graph / "model.pt").write_bytes(b"read by no one: the workers are fakes")
        async with fake.engine as engine:
            fake.main.arrive()
            await fake.load("text", zoo.a)
            for name in ("one", "two"):
                await fake.load(name, graph)
            _, graphs = fake.supervisors
            assert (len(fake.main.held), len(graphs.held)) == (1, 2)
            assert reserved(engine) == 3 * 1000 + FakeSupervisor.CONTEXT
            graphs.culprit = 2
            graphs.die()
            assert (len(fake.main.held), len(graphs.held)) == (1, 0)
            graphs.arrive()
            await fake.go_on_until(lambda: len(graphs.held) == 2)
            for name in ("one", "two"):
                unload = asyncio.create_task(engine.unload(name))
                await fake.go_on_until(unload.done)
            assert graphs.stopped
            assert reserved(engine) == 1000

    asyncio.run(scenario())
