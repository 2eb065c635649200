"""The engine with its real fork server and worker: time limits, and the recovery from dead processes.

After every time-out and every death, the ledger is at zero and the engine can be used.
"""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace

import pytest

from model_handler.engine.engine import Engine
from model_handler.engine.factory import create_engine
from model_handler.errors import (
    DeadlineExceeded,
    Draining,
    EngineError,
    ModelLoadFailed,
    ModelNotFound,
    QueueFull,
    Unavailable,
)
from model_handler.messages import InferenceRequest
from model_handler.options import EngineOptions
from tests.contract.artifacts import Zoo, tokens
from tests.model_handler.descendants import Descendants

TEXT = InferenceRequest(b'{"inputs": "hello"}', "application/json")
PATIENCE_S = 60.0


@pytest.fixture(scope="module")
def zoo(tmp_path_factory: pytest.TempPathFactory) -> Zoo:
    return Zoo(tmp_path_factory.mktemp("models"))


@pytest.fixture(scope="module")
def options(zoo: Zoo) -> EngineOptions:
    return EngineOptions(model_roots=(zoo.root,), device="cpu")


@asynccontextmanager
async def running(options: EngineOptions) -> AsyncIterator[Engine]:
    async with asyncio.timeout(PATIENCE_S), create_engine(options) as engine:
        yield engine


@dataclass
class Shared:
    """An engine for tests that need no limits of their own. Each leaves it without models."""

    engine: Engine
    runner: asyncio.Runner
    descendants: Descendants

    def run(self, scenario: Coroutine[None, None, object]) -> None:
        async def within() -> None:
            async with asyncio.timeout(PATIENCE_S):
                await scenario
                assert self.engine.models() == []
                assert reserved(self.engine) == 0

        self.runner.run(within())


@pytest.fixture(scope="module")
def shared(options: EngineOptions) -> Iterator[Shared]:
    """At the end it leaves no process."""
    descendants = Descendants()
    with asyncio.Runner() as runner:
        engine = create_engine(options)
        runner.run(engine.__aenter__())
        yield Shared(engine, runner, descendants)
        runner.run(engine.__aexit__(None, None, None))
    assert not descendants.named("mme-worker")
    assert not descendants.named("mme-forkserver")


def generation(count: int = 4000) -> InferenceRequest:
    return InferenceRequest(json.dumps(tokens(count)).encode(), "application/json")


def reserved(engine: Engine) -> float:
    (line,) = (
        line
        for line in engine.exposition().decode().splitlines()
        if line.startswith('mme_memory_reserved_bytes{tier="device"}')
    )
    return float(line.split()[1])


async def until(attempt: Callable[[], Awaitable[object]]) -> None:
    """Repeat the call while it raises Unavailable. The caller sets a time limit."""
    while True:
        try:
            await attempt()
        except Unavailable:
            await asyncio.sleep(0)
        else:
            return


@pytest.fixture
def slow_load_s(zoo: Zoo, shared: Shared) -> float:
    """How long it takes on this machine, today."""

    async def load() -> float:
        await until_started(shared.engine, zoo)
        began = time.monotonic()
        await shared.engine.load("slow", str(zoo.slow_load))
        taken = time.monotonic() - began
        await shared.engine.unload("slow")
        return taken

    return shared.runner.run(load())


async def until_released(engine: Engine) -> None:
    """A model that is forgotten is taken down in a task of its own."""

    async def released() -> None:
        if reserved(engine):
            raise Unavailable("bytes are reserved")

    await until(released)


def test_a_load_that_outlasts_its_limit_leaves_nothing(
    zoo: Zoo, options: EngineOptions, slow_load_s: float
) -> None:
    """The worker is still busy with it when the caller gets the error, and drops it when done."""

    async def scenario() -> None:
        limit = slow_load_s / 4
        async with running(replace(options, load_timeout_s=limit)) as engine:
            await until_started(engine, zoo)
            with pytest.raises(ModelLoadFailed, match="loading took longer than"):
                await engine.load("slow", str(zoo.slow_load))
            assert reserved(engine) == 0
            with pytest.raises(ModelNotFound):
                engine.model("slow")
            await engine.load("A", str(zoo.a))
            assert b"A" in (await engine.invoke("A", TEXT)).body

    asyncio.run(scenario())


async def until_started(engine: Engine, zoo: Zoo) -> None:
    """Wait for the first worker's imports, which would count as loading time."""
    while True:
        try:
            await engine.load("first", str(zoo.b))
        except ModelLoadFailed:
            continue
        await engine.unload("first")
        return


def test_requests_that_outlast_their_limit(zoo: Zoo, options: EngineOptions) -> None:
    """The generation is stopped, time in the queue counts, and the model answers further requests."""

    async def scenario() -> None:
        async with running(replace(options, request_timeout_s=0.5)) as engine:
            await engine.load("slow", str(zoo.slow))
            calls = (engine.invoke("slow", generation()) for _ in range(3))
            for outcome in await asyncio.gather(*calls, return_exceptions=True):
                assert isinstance(outcome, DeadlineExceeded), outcome
            await until_answered(engine, "slow")
            await engine.unload("slow")
            assert reserved(engine) == 0

    asyncio.run(scenario())


async def until_answered(engine: Engine, name: str) -> None:
    """Repeat the request: the worker may still compute the forward that it will abandon."""
    while True:
        try:
            await engine.invoke(name, InferenceRequest(json.dumps(tokens(2)).encode()))
        except DeadlineExceeded:
            continue
        return


def test_a_full_queue_refuses_at_once(zoo: Zoo, options: EngineOptions) -> None:
    async def scenario() -> None:
        async with running(replace(options, max_queue=2, max_batch_size=1)) as engine:
            await engine.load("slow", str(zoo.slow))
            calls = [asyncio.create_task(engine.invoke("slow", generation(1000))) for _ in range(6)]
            done, _ = await asyncio.wait(calls, return_when=asyncio.FIRST_COMPLETED)
            assert all(isinstance(call.exception(), QueueFull) for call in done)
            for call in calls:
                call.cancel()
            await asyncio.wait(calls)
            await engine.unload("slow")
            assert reserved(engine) == 0

    asyncio.run(scenario())


def test_an_unload_does_not_wait_for_ever(zoo: Zoo, options: EngineOptions) -> None:
    """Requests in flight at the limit are answered with Unavailable, and the bytes are released."""

    async def scenario() -> None:
        limits = replace(options, unload_timeout_s=0.2, request_timeout_s=3.0)
        async with running(limits) as engine:
            await engine.load("slow", str(zoo.slow))
            call = asyncio.create_task(engine.invoke("slow", generation()))
            await asyncio.sleep(0)
            await engine.unload("slow")
            with pytest.raises(Unavailable, match="unloaded"):
                await call
            assert reserved(engine) == 0

    asyncio.run(scenario())


def test_draining_refuses_new_work_and_finishes_the_old(zoo: Zoo, options: EngineOptions) -> None:
    async def scenario() -> None:
        async with running(options) as engine:
            await engine.load("A", str(zoo.a))
            call = asyncio.create_task(engine.invoke("A", TEXT))
            await asyncio.sleep(0)
            engine.drain()
            assert engine.health() == "draining"
            with pytest.raises(Draining):
                await engine.invoke("A", TEXT)
            with pytest.raises(Draining):
                await engine.load("B", str(zoo.b))
            await engine.idle()
            assert b"A" in (await call).body

    asyncio.run(scenario())


def test_the_fork_server_and_its_workers_may_die(zoo: Zoo, shared: Shared) -> None:
    """First the worker, then the fork server: both times the model is back without a load."""
    engine = shared.engine

    async def scenario() -> None:
        await engine.load("A", str(zoo.a))
        for name in ("mme-worker", "mme-forkserver"):
            shared.descendants.kill(name)
            await until(lambda: engine.invoke("A", TEXT))
        await engine.unload("A")

    shared.run(scenario())


def test_an_artifact_that_vanished_is_forgotten_at_the_restore(zoo: Zoo, shared: Shared) -> None:
    """Requests for it get 404, and the platform loads it again; the others are restored."""
    engine, goes = shared.engine, zoo.copy("goes", zoo.a)

    async def scenario() -> None:
        await engine.load("stays", str(zoo.b))
        await engine.load("goes", str(goes))
        (goes / "model.safetensors").unlink()
        shared.descendants.kill("mme-worker")
        await until(lambda: engine.invoke("stays", TEXT))
        with pytest.raises(ModelNotFound):
            await until(lambda: engine.invoke("goes", TEXT))
        await engine.unload("stays")
        await until_released(engine)

    shared.run(scenario())


def test_short_requests_pass_a_long_generation(zoo: Zoo, shared: Shared) -> None:
    """They are answered between its tokens, and the text is what it would have been."""
    engine = shared.engine

    async def scenario() -> None:
        await engine.load("long", str(zoo.slow))
        await engine.load("short", str(zoo.a))
        await engine.invoke("short", TEXT)
        document = tokens(1_000)
        document["parameters"]["do_sample"] = False
        request = InferenceRequest(json.dumps(document).encode(), "application/json")
        long = asyncio.create_task(engine.invoke("long", request))
        for _ in range(20):
            await engine.invoke("short", TEXT)
        assert not long.done()
        text = json.loads((await long).body)[0]["generated_text"]
        again = json.loads((await engine.invoke("long", request)).body)[0]["generated_text"]
        assert text == again
        await engine.unload("long")
        await engine.unload("short")

    shared.run(scenario())


def test_a_device_that_is_not_there_is_a_sickness(options: EngineOptions) -> None:
    """After enough failed starts, health reports the reason; loads fail meanwhile."""

    async def scenario() -> None:
        hopeless = replace(options, device="cuda:99", load_timeout_s=0.1)
        async with running(hopeless) as engine:
            assert engine.health() is None
            while engine.health() is None:
                with pytest.raises(EngineError):
                    await engine.load("A", "/nowhere")
            assert "cuda:99 does not exist" in str(engine.health())
            with pytest.raises(Unavailable, match="cuda:99"):
                await engine.load("A", "/nowhere")

    asyncio.run(scenario())
