"""Which model is blamed for a lost device, and which process carries it then. The workers are fakes."""

import asyncio
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import cast

import pytest

from model_handler.engine.engine import Engine
from model_handler.engine.fleet import Fleet
from model_handler.engine.metrics import Metrics
from model_handler.engine.scheduler import Scheduler
from model_handler.errors import Unavailable
from model_handler.memory.residency import Residency
from model_handler.options import EngineOptions
from model_handler.processes.forkserver_client import ForkServerClient
from model_handler.processes.supervisor import Supervisor
from tests.contract.artifacts import Zoo
from tests.model_handler.engine.test_engine import TEXT, reserved
from tests.model_handler.fake_supervisor import FakeSupervisor, turns


@pytest.fixture(scope="module")
def zoo(tmp_path_factory: pytest.TempPathFactory) -> Zoo:
    return Zoo(tmp_path_factory.mktemp("models"))


@pytest.fixture(scope="module")
def options(zoo: Zoo) -> EngineOptions:
    return EngineOptions(model_roots=(zoo.root,), device="cpu")


class Supervised:
    """An engine over workers of the device that exist only as far as a test lets them."""

    def __init__(self, options: EngineOptions, device: str = "cpu") -> None:
        self.supervisors: list[FakeSupervisor] = []
        self.main = self.spawn()
        self.main.device = device
        forks = ForkServerClient()
        # A FakeSupervisor is all that an engine sees of a Supervisor
        main, spawn = cast("Supervisor", self.main), cast("Callable[[], Supervisor]", self.spawn)
        workers = Fleet(main, forks, spawn)
        residency, metrics = Residency(workers), Metrics()
        scheduler = Scheduler(residency, metrics)
        self.engine = Engine(options, forks, workers, residency, scheduler, metrics)

    def spawn(self) -> FakeSupervisor:
        supervisor = FakeSupervisor(lambda _: 1000)
        self.supervisors.append(supervisor)
        return supervisor

    async def load(self, name: str, directory: Path) -> None:
        load = asyncio.create_task(self.engine.load(name, str(directory)))
        await self.go_on_until(load.done)
        load.result()

    async def go_on_until(self, done: Callable[[], bool]) -> None:
        """Let every call pass until `done`."""
        while not done():
            for supervisor in self.supervisors:
                await supervisor.go_on_until(lambda: True)
                if supervisor.calls and not done():
                    supervisor.let_go(0)
            await asyncio.wait([asyncio.create_task(turns())])

    def names(self) -> list[str]:
        return [model.name for model in self.engine.models()]


def test_a_model_that_ends_its_workers_while_being_restored_is_given_up(
    zoo: Zoo, options: EngineOptions
) -> None:
    """Twice under suspicion is enough; the model that was restored before it stays."""

    async def scenario() -> None:
        house = Supervised(options)
        supervisor = house.main
        async with house.engine as engine:
            supervisor.arrive()
            await house.load("guilty", zoo.a)
            await house.load("innocent", zoo.b)
            for _ in range(2):
                supervisor.die()
                supervisor.arrive()
                await house.go_on_until(lambda: supervisor.busy("load", 1))
            supervisor.die()
            supervisor.arrive()
            await house.go_on_until(lambda: bool(supervisor.held) and not supervisor.calls)
            assert house.names() == ["innocent"]
            assert reserved(engine) == 1000

    asyncio.run(scenario())


async def lost_while_computing(house: Supervised, name: str, culprit: int) -> None:
    """A request meets the end of the worker, which names the model that was computing."""
    answer = asyncio.create_task(house.engine.invoke(name, TEXT))
    await house.main.go_on_until(lambda: house.main.busy("run", culprit))
    house.main.culprit = culprit
    house.main.die()
    with pytest.raises(Unavailable):
        await answer
    house.main.culprit = 0
    house.main.arrive()


def settled(worker: FakeSupervisor, model_id: int) -> bool:
    """It holds that model, and nothing is under way."""
    return model_id in worker.held and not worker.calls


def test_a_model_that_loses_the_device_twice_goes_on_alone(
    zoo: Zoo, options: EngineOptions
) -> None:
    """Its neighbour stays where it is, and is not blamed for being restored meanwhile."""

    async def scenario() -> None:
        house = Supervised(options)
        async with house.engine as engine:
            house.main.arrive()
            await house.load("guilty", zoo.a)
            await house.load("innocent", zoo.b)
            for _ in range(2):
                await lost_while_computing(house, "guilty", 1)
                await house.go_on_until(partial(settled, house.main, 2))
            own = house.supervisors[-1]
            await house.go_on_until(lambda: own.held == {1})
            assert (house.main.held, own.held) == ({2}, {1})
            answer = asyncio.create_task(engine.invoke("guilty", TEXT))
            await house.go_on_until(answer.done)
            assert answer.result().body.startswith(b"1:")
            unload = asyncio.create_task(engine.unload("guilty"))
            await house.go_on_until(unload.done)
            assert own.stopped
            assert house.names() == ["innocent"]
            assert reserved(engine) == 1000

    asyncio.run(scenario())


def test_on_a_gpu_graphs_have_a_process_for_themselves(zoo: Zoo, options: EngineOptions) -> None:
    """One for all of them, charged with its context, and ended with the last."""

    async def scenario() -> None:
        house = Supervised(options, device="cuda:0")
        graph = zoo.root / "graph" / "model"
        graph.mkdir(parents=True)
        (graph / "model.pt").write_bytes(b"read by no one: the workers are fakes")
        async with house.engine as engine:
            house.main.arrive()
            await house.load("text", zoo.a)
            for name in ("one", "two"):
                await house.load(name, graph)
            _, graphs = house.supervisors
            assert (len(house.main.held), len(graphs.held)) == (1, 2)
            assert reserved(engine) == 3 * 1000 + FakeSupervisor.CONTEXT
            graphs.culprit = 2
            graphs.die()
            assert (len(house.main.held), len(graphs.held)) == (1, 0)
            graphs.arrive()
            await house.go_on_until(lambda: len(graphs.held) == 2)
            for name in ("one", "two"):
                unload = asyncio.create_task(engine.unload(name))
                await house.go_on_until(unload.done)
            assert graphs.stopped
            assert reserved(engine) == 1000

    asyncio.run(scenario())
