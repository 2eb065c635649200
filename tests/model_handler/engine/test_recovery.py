"""Which model is blamed for a lost device, and which process carries it then. The workers are fakes."""

import asyncio
import shutil
from functools import partial

import pytest

from model_handler.engine.admission import WORKER_NBYTES
from model_handler.errors import Unavailable
from model_handler.options import EngineOptions
from tests.contract.artifacts import Zoo
from tests.model_handler.engine.test_engine import TEXT, reserved
from tests.model_handler.fake_engine import FakeEngine
from tests.model_handler.fake_supervisor import FakeSupervisor, turns


@pytest.fixture(scope="module")
def zoo(tmp_path_factory: pytest.TempPathFactory) -> Zoo:
    return Zoo(tmp_path_factory.mktemp("models"))


@pytest.fixture(scope="module")
def options(zoo: Zoo) -> EngineOptions:
    return EngineOptions(model_roots=(zoo.root,), device="cpu")


async def lost_while_computing(fake: FakeEngine, name: str, culprit: int) -> None:
    """A request meets the end of the worker, for which the model that was computing is blamed."""
    answer = asyncio.create_task(fake.engine.invoke(name, TEXT))
    await fake.main.go_on_until(lambda: fake.main.busy("run", culprit))
    fake.main.culprit = culprit
    fake.main.die()
    with pytest.raises(Unavailable):
        await answer
    fake.main.culprit = 0
    fake.main.arrive()


async def killed(worker: FakeSupervisor, *suspects: int) -> None:
    """From outside, while these models are at work."""
    worker.suspects = frozenset(suspects)
    worker.die()
    worker.suspects = frozenset()
    await turns()
    worker.arrive()


async def settled(fake: FakeEngine, names: list[str]) -> None:
    """All models answer."""
    for name in names:
        answer = asyncio.create_task(fake.engine.invoke(name, TEXT))
        await fake.go_on_until(answer.done)
        answer.result()
    await fake.go_on_until(lambda: not any(one.calls for one in fake.supervisors))


def test_a_model_that_ends_its_worker_goes_on_alone(zoo: Zoo, options: EngineOptions) -> None:
    """At once. Its neighbour is restored without it, and is not blamed for being restored meanwhile."""

    async def scenario() -> None:
        fake = FakeEngine(options)
        async with fake.engine as engine:
            fake.main.arrive()
            await fake.load("guilty", zoo.a)
            await fake.load("innocent", zoo.b)
            await lost_while_computing(fake, "guilty", 1)
            await settled(fake, ["innocent", "guilty"])
            own = fake.supervisors[-1]
            assert (fake.main.held, own.held) == ({2}, {1})
            assert (fake.main.explained, own.alone) == (True, True)
            assert reserved(engine) == 2 * 1000 + WORKER_NBYTES
            own.culprit = 1
            own.die()
            own.arrive()
            await settled(fake, ["innocent", "guilty"])
            assert (fake.main.held, own.held) == ({2}, {1})
            assert len(fake.supervisors) == 2
            unload = asyncio.create_task(engine.unload("guilty"))
            await fake.go_on_until(unload.done)
            assert own.stopped
            assert fake.names() == ["innocent"]
            assert reserved(engine) == 1000

    asyncio.run(scenario())


def test_kills_in_a_row_blame_only_who_was_at_work_each_time(
    zoo: Zoo, options: EngineOptions
) -> None:
    """A model is never unloaded for that, and the ones in between are forgotten."""

    async def scenario() -> None:
        fake = FakeEngine(options)
        names = ["a", "b", "c"]
        async with fake.engine as engine:
            fake.main.arrive()
            for name in names:
                await fake.load(name, zoo.a)
            for suspects in [(1, 2), (3,), (2,), (), (2, 1), (3, 1)]:
                assert fake.main.held == {1, 2, 3}
                await killed(fake.main, *suspects)
                await settled(fake, names)
            own = fake.supervisors[-1]
            assert (fake.main.held, own.held) == ({2, 3}, {1})
            for _ in range(3):
                await killed(own, 1)
                await settled(fake, names)
            assert fake.names() == names
            assert reserved(engine) == 3 * 1000 + WORKER_NBYTES

    asyncio.run(scenario())


def test_kills_during_a_restore(zoo: Zoo, options: EngineOptions) -> None:
    """The model goes on in a process of its own, and is not unloaded when that is killed, too."""

    async def scenario() -> None:
        fake = FakeEngine(options)
        async with fake.engine:
            fake.main.arrive()
            await fake.load("slow", zoo.a)
            await fake.load("other", zoo.b)
            await killed(fake.main)
            for _ in range(2):
                await fake.go_on_until(lambda: fake.main.busy("load", 1))
                await killed(fake.main, 1)
            await settled(fake, ["slow", "other"])
            own = fake.supervisors[-1]
            assert (fake.main.held, own.held) == ({2}, {1})
            for _ in range(3):
                await killed(own)
                await fake.go_on_until(lambda: own.busy("load", 1))
            await settled(fake, ["slow", "other"])
            assert fake.names() == ["other", "slow"]

    asyncio.run(scenario())


def test_a_first_load_is_suspected_before_what_has_served(zoo: Zoo, options: EngineOptions) -> None:
    """It explains the death, so that the worker does not count as one that does not start."""

    async def scenario() -> None:
        fake = FakeEngine(options)
        async with fake.engine:
            fake.main.arrive()
            await fake.load("old", zoo.a)
            for number in range(4):
                load = asyncio.create_task(fake.engine.load(f"new {number}", str(zoo.b)))
                await fake.go_on_until(partial(fake.main.busy, "load", number + 2))
                await killed(fake.main, 1, number + 2)
                assert fake.main.explained
                await fake.go_on_until(load.done)
                assert isinstance(load.exception(), Unavailable)
                await settled(fake, ["old"])
            await killed(fake.main)
            assert not fake.main.explained
            await settled(fake, ["old"])
            assert len(fake.supervisors) == 1

    asyncio.run(scenario())


def test_a_lost_device_is_not_left_until_it_has_started_another_process(
    zoo: Zoo, options: EngineOptions
) -> None:
    """The loss that a worker reports may be the device's own."""

    async def scenario() -> None:
        fake = FakeEngine(options, device="cuda:0")
        async with fake.engine:
            fake.main.arrive()
            await fake.load("guilty", zoo.a)
            fake.main.culprit, fake.main.poisoned = 1, True
            fake.main.die()
            assert len(fake.supervisors) == 1
            fake.main.arrive()
            await settled(fake, ["guilty"])
            main, own = fake.supervisors
            assert (main.held, own.held) == (set(), {1})

    asyncio.run(scenario())


def test_a_model_that_asks_for_a_process_of_its_own(zoo: Zoo, options: EngineOptions) -> None:
    """It is not code, and it has one from its load on."""

    async def scenario() -> None:
        fake = FakeEngine(options)
        directory = zoo.root / "own"
        shutil.copytree(zoo.a, directory)
        (directory / "serving.properties").write_text("option.isolation=own")
        async with fake.engine as engine:
            fake.main.arrive()
            await fake.load("shared", zoo.a)
            await fake.load("own", directory)
            main, own = fake.supervisors
            assert (main.held, own.held, own.alone) == ({1}, {2}, True)
            await settled(fake, ["own"])
            assert reserved(engine) == 2 * 1000 + WORKER_NBYTES

    asyncio.run(scenario())


@pytest.mark.parametrize("file", ["model.pt", "model.onnx"])
def test_on_a_cpu_graphs_have_processes_for_themselves(
    zoo: Zoo, options: EngineOptions, file: str
) -> None:
    """As many as main workers, which end with the last graph."""

    async def scenario() -> None:
        fake = FakeEngine(options, workers=2)
        graph = zoo.root / file.replace(".", "-")
        graph.mkdir(parents=True)
        (graph / file).write_bytes(b"read by no one: the workers are fakes")
        async with fake.engine as engine:
            fake.main.arrive()
            fake.supervisors[1].arrive()
            await fake.load("text", zoo.a)
            for name in ("one", "two"):
                await fake.load(name, graph)
            held = [one.held for one in fake.supervisors]
            assert held == [{1}, set(), {2}, {3}]
            assert reserved(engine) == 3 * 1000 + 2 * WORKER_NBYTES
            fake.supervisors[2].culprit = 2
            fake.supervisors[2].die()
            fake.supervisors[2].arrive()
            await settled(fake, ["one", "two", "text"])
            held = [one.held for one in fake.supervisors]
            assert held == [{1}, set(), set(), {3}, {2}]
            for name in ("one", "two"):
                unload = asyncio.create_task(engine.unload(name))
                await fake.go_on_until(unload.done)
            assert [one.stopped for one in fake.supervisors] == [False, False, True, True, True]
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
