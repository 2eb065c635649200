"""One engine with two workers on a CPU: where models are open, and what happens when a worker dies.

The workers are fakes, and the test moves the clock.
"""

import asyncio
from collections.abc import Callable, Coroutine
from dataclasses import replace
from typing import Any, cast

import pytest

from model_handler.engine.admission import WORKER_NBYTES
from model_handler.errors import Draining, InsufficientMemory, Unavailable
from model_handler.messages import InferenceResponse
from model_handler.options import EngineOptions
from tests.contract.artifacts import Zoo
from tests.model_handler.engine.test_engine import TEXT, reserved
from tests.model_handler.fake_engine import FakeEngine
from tests.model_handler.fake_supervisor import FakeSupervisor, turns
from tests.model_handler.virtual_time import VirtualLoop

NBYTES, PRIVATE_NBYTES = 1_000_000, 600_000
LOAD_S = 1.0
Answer = asyncio.Task[InferenceResponse]


@pytest.fixture(scope="module")
def zoo(tmp_path_factory: pytest.TempPathFactory) -> Zoo:
    return Zoo(tmp_path_factory.mktemp("models"))


@pytest.fixture(scope="module")
def options(zoo: Zoo) -> EngineOptions:
    return EngineOptions(model_roots=(zoo.root,), device="cpu")


class TwoWorkers(FakeEngine):
    """`main` and `second` are ready after `start`. A batch holds one request."""

    def __init__(self, options: EngineOptions) -> None:
        super().__init__(replace(options, max_batch_size=1), workers=2)

    def supervise(self, *args: Any, **options: Any) -> Any:
        supervisor = cast("FakeSupervisor", super().supervise(*args, **options))
        supervisor.nbytes = lambda _: NBYTES
        supervisor.private_nbytes, supervisor.load_s = PRIVATE_NBYTES, LOAD_S
        return supervisor

    def start(self) -> None:
        self.main.arrive()
        _, self.second = self.supervisors
        self.second.arrive()

    async def ask(self, name: str, count: int = 1) -> list[Answer]:
        answers = [asyncio.create_task(self.engine.invoke(name, TEXT)) for _ in range(count)]
        await turns()
        return answers

    async def overload(self, name: str, seconds: float) -> list[Answer]:
        """Three requests, of which one waits for so long: a worker takes two."""
        answers = await self.ask(name, 3)
        await after(seconds)
        return answers

    async def open_in_both(self, name: str) -> list[Answer]:
        """Open model 1, at home in the main worker. Two answers are in flight there, one in the second."""
        answers = await self.overload(name, LOAD_S)
        await self.second.go_on_until(lambda: self.second.busy("run", 1))
        return answers

    async def finish(self, work: "asyncio.Task[Any] | Coroutine[Any, Any, Any]") -> Any:
        task = asyncio.ensure_future(work)
        await self.go_on_until(task.done)
        return task.result()


async def after(seconds: float) -> None:
    cast("VirtualLoop", asyncio.get_running_loop()).now += seconds
    await turns()


def story(scenario: Callable[[], Coroutine[Any, Any, None]]) -> None:
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        runner.run(scenario())


def test_models_are_at_home_in_alternate_workers(zoo: Zoo, options: EngineOptions) -> None:
    async def scenario() -> None:
        fake = TwoWorkers(options)
        async with fake.engine as engine:
            fake.start()
            for name in "abcd":
                await fake.load(name, zoo.a)
            assert (fake.main.held, fake.second.held) == ({1, 3}, {2, 4})
            assert reserved(engine) == 4 * NBYTES

    story(scenario)


def test_an_overloaded_model_opens_in_the_second_worker_when_that_pays(
    zoo: Zoo, options: EngineOptions
) -> None:
    """When its requests have waited as long as opening takes, and not before. It costs its private memory."""

    async def scenario() -> None:
        fake = TwoWorkers(options)
        async with fake.engine as engine:
            fake.start()
            await fake.load("a", zoo.a)
            answers = await fake.overload("a", 0.9 * LOAD_S)
            assert (len(fake.main.calls), fake.second.calls) == (2, [])
            await after(0.1 * LOAD_S)
            assert [call.kind for call in fake.second.calls] == ["load"]
            for answer in answers:
                assert (await fake.finish(answer)).body.startswith(b"1:")
            assert (fake.main.held, fake.second.held) == ({1}, {1})
            assert reserved(engine) == NBYTES + PRIVATE_NBYTES

    story(scenario)


def test_waits_while_no_worker_is_idle_do_not_count(zoo: Zoo, options: EngineOptions) -> None:
    async def scenario() -> None:
        fake = TwoWorkers(options)
        async with fake.engine:
            fake.start()
            await fake.load("a", zoo.a)
            await fake.load("b", zoo.b)
            answers = [*await fake.ask("b"), *await fake.overload("a", 5 * LOAD_S)]
            assert [call.kind for call in fake.second.calls] == ["run"]
            for answer in answers:
                await fake.finish(answer)
            assert (fake.main.held, fake.second.held) == ({1}, {2})

    story(scenario)


@pytest.mark.parametrize("home_dies", [True, False])
def test_a_model_open_in_both_goes_on_at_once_when_one_worker_dies(
    zoo: Zoo, options: EngineOptions, home_dies: bool
) -> None:
    """Only the batches of that worker fail."""

    async def scenario() -> None:
        fake = TwoWorkers(options)
        async with fake.engine as engine:
            fake.start()
            await fake.load("a", zoo.a)
            answers = await fake.open_in_both("a")
            dying, other = (fake.main, fake.second) if home_dies else (fake.second, fake.main)
            failed, kept = (answers[:2], answers[2:]) if home_dies else (answers[2:], answers[:2])
            dying.die()
            (more,) = await fake.ask("a")
            for answer in failed:
                with pytest.raises(Unavailable):
                    await answer
            for answer in [*kept, more]:
                await other.go_on_until(answer.done)
                assert answer.result().body.startswith(b"1:")
            assert not dying.running
            assert engine.health() is None
            assert reserved(engine) == NBYTES + (PRIVATE_NBYTES if home_dies else 0)

    story(scenario)


def test_an_unload_frees_the_model_in_both(zoo: Zoo, options: EngineOptions) -> None:
    """After the batches in flight in either worker."""

    async def scenario() -> None:
        fake = TwoWorkers(options)
        async with fake.engine as engine:
            fake.start()
            await fake.load("a", zoo.a)
            answers = await fake.open_in_both("a")
            unload = asyncio.create_task(engine.unload("a"))
            await turns()
            assert {call.kind for call in [*fake.main.calls, *fake.second.calls]} == {"run"}
            await fake.finish(unload)
            assert all(answer.result().body.startswith(b"1:") for answer in answers)
            assert not fake.main.held | fake.second.held
            assert reserved(engine) == 0

    story(scenario)


def test_a_load_closes_further_replicas_before_it_is_refused(
    zoo: Zoo, options: EngineOptions
) -> None:
    """An idle one at once, one with a batch in flight after that."""

    async def scenario() -> None:
        fake = TwoWorkers(replace(options, device_memory_nbytes=2 * NBYTES + PRIVATE_NBYTES // 2))
        async with fake.engine as engine:
            fake.start()
            await fake.load("a", zoo.a)
            answers = await fake.open_in_both("a")
            load = asyncio.create_task(engine.load("b", str(zoo.b)))
            await fake.finish(load)
            assert answers[2].done()
            assert (fake.main.held, fake.second.held) == ({1}, {2})
            assert reserved(engine) == 2 * NBYTES
            with pytest.raises(InsufficientMemory):
                await fake.load("c", zoo.a)
            assert fake.names() == ["a", "b"]
            for answer in answers:
                await fake.finish(answer)

    story(scenario)


def test_no_further_replica_is_opened_in_a_full_ledger(zoo: Zoo, options: EngineOptions) -> None:
    async def scenario() -> None:
        fake = TwoWorkers(replace(options, device_memory_nbytes=NBYTES + PRIVATE_NBYTES - 1))
        async with fake.engine as engine:
            fake.start()
            await fake.load("a", zoo.a)
            answers = await fake.overload("a", 5 * LOAD_S)
            assert fake.second.calls == []
            for answer in answers:
                await fake.finish(answer)
            assert reserved(engine) == NBYTES

    story(scenario)


async def killed_by_its_model(worker: FakeSupervisor) -> None:
    """The worker dies in a batch of model 1, and another process starts."""
    await worker.go_on_until(lambda: worker.busy("run", 1))
    worker.culprit = 1
    worker.die()
    worker.culprit = 0
    worker.arrive()
    await turns()


@pytest.mark.parametrize("home_first", [True, False])
def test_a_model_that_loses_both_workers_goes_on_alone(
    zoo: Zoo, options: EngineOptions, home_first: bool
) -> None:
    """It is in neither of them then, even if its restore was in progress. Waiting requests are answered."""

    async def scenario() -> None:
        fake = TwoWorkers(options)
        async with fake.engine as engine:
            fake.start()
            await fake.load("guilty", zoo.a)
            for name in ("innocent", "neighbour"):
                await fake.load(name, zoo.b)
            answers = await fake.open_in_both("guilty")
            workers = [fake.main, fake.second]
            for worker in workers if home_first else reversed(workers):
                await killed_by_its_model(worker)
            answers += await fake.ask("guilty", 4)
            for answer in answers[3:]:
                assert (await fake.finish(answer)).body.startswith(b"1:")
            await fake.go_on_until(lambda: fake.second.held == {2} and not fake.main.calls)
            *_, own = fake.supervisors
            assert (fake.main.held, fake.second.held, own.held) == ({3}, {2}, {1})
            assert reserved(engine) == 3 * NBYTES + WORKER_NBYTES
            await fake.finish(engine.unload("guilty"))
            assert own.stopped
            assert reserved(engine) == 2 * NBYTES
            await asyncio.gather(*answers, return_exceptions=True)

    story(scenario)


def test_restored_models_come_back_at_their_home(zoo: Zoo, options: EngineOptions) -> None:
    """Further replicas come back when requests wait again."""

    async def scenario() -> None:
        fake = TwoWorkers(options)
        async with fake.engine as engine:
            fake.start()
            for name in "abc":
                await fake.load(name, zoo.a)
            answers = await fake.open_in_both("a")
            for answer in answers:
                await fake.finish(answer)
            assert (fake.main.held, fake.second.held) == ({1, 3}, {1, 2})
            for worker in (fake.main, fake.second):
                worker.die()
                worker.arrive()
            await fake.go_on_until(lambda: not fake.main.calls and fake.second.held == {2})
            await turns()
            assert (fake.main.held, fake.second.held) == ({1, 3}, {2})
            assert reserved(engine) == 3 * NBYTES

    story(scenario)


def test_a_drain_lets_both_workers_finish(zoo: Zoo, options: EngineOptions) -> None:
    async def scenario() -> None:
        fake = TwoWorkers(options)
        async with fake.engine as engine:
            fake.start()
            await fake.load("a", zoo.a)
            answers = await fake.open_in_both("a")
            engine.drain()
            with pytest.raises(Draining):
                await engine.invoke("a", TEXT)
            for answer in answers:
                assert (await fake.finish(answer)).body.startswith(b"1:")

    story(scenario)


def test_metrics_of_each_worker(zoo: Zoo, options: EngineOptions) -> None:
    async def scenario() -> None:
        fake = TwoWorkers(options)
        async with fake.engine as engine:
            fake.start()
            await fake.load("a", zoo.a)
            await fake.load("b", zoo.b)
            fake.main.forward_s = {1: 0.25}
            for answer in await fake.open_in_both("a"):
                await fake.finish(answer)
            fake.second.die()
            text = engine.exposition().decode()
            assert 'mme_worker_models{worker="cpu 1"} 1.0' in text
            assert 'mme_worker_models{worker="cpu 2"} 0.0' in text
            assert 'mme_worker_compute_seconds_total{worker="cpu 1"} 0.5' in text
            assert 'mme_worker_compute_seconds_total{worker="cpu 2"} 0.0' in text
            assert "mme_worker_restarts_total 1.0" in text

    story(scenario)
