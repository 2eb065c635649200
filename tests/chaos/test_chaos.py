"""Nothing one model's code does harms another: real processes, real signals, a neighbour that is asked
all the while and never gets anything but its right answer.

After every one of these the model serves again, its bytes are in the ledger once, and /ping says well.
"""

import asyncio
import contextlib
import itertools
import json
import os
import signal
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pytest

from model_handler.engine import Engine
from model_handler.errors import (
    DeadlineExceeded,
    EngineError,
    InferenceFailed,
    InsufficientMemory,
    ModelLoadFailed,
    ModelNotFound,
    WorkerDied,
)
from model_handler.factory import create_engine
from model_handler.messages import InferenceRequest
from model_handler.options import EngineOptions
from tests.chaos import scripts
from tests.chaos.scripts import do

BUDGET_NBYTES = 600 << 20
DEADLINE_S = 3.0
PATIENCE_S = 90.0
ANSWER = do("answer")


@dataclass
class House:
    """A running engine with the misbehaving model, its neighbour, and the loop both live on."""

    engine: Engine
    runner: asyncio.Runner
    root: Path

    def run(self, scenario: Coroutine[Any, Any, None]) -> None:
        async def within() -> None:
            async with asyncio.timeout(PATIENCE_S):
                await scenario

        self.runner.run(within())

    async def ask(self, name: str, body: bytes) -> Any:
        response = await self.engine.invoke(name, InferenceRequest(body, "application/json"))
        return json.loads(response.body)

    async def pid(self, name: str = "rogue") -> int:
        """Of the process that answers now; waits while it is being brought back."""
        body = ANSWER if name == "rogue" else b"[]"
        while True:
            try:
                return int((await self.ask(name, body))["pid"])
            except WorkerDied:
                await asyncio.sleep(0)

    @asynccontextmanager
    async def neighbour_served(self) -> AsyncIterator[None]:
        """The neighbour is asked again and again for the time of the block: same process, right sums."""
        before = await self.pid("neighbour")
        served = asyncio.Event()

        async def ask_on() -> None:
            for number in itertools.count():
                answer = await self.ask("neighbour", json.dumps([number, 1]).encode())
                assert answer == {"pid": before, "sum": number + 1}
                served.set()

        async with asyncio.TaskGroup() as group:  # a wrong answer ends the block
            asking = group.create_task(ask_on())
            yield
            await served.wait()
            asking.cancel()

    def reserved(self) -> int:
        return self.engine._residency.device.reserved

    def held(self) -> int:
        places = self.engine._residency._residences.values()
        return sum(place.device.nbytes for place in places if place.device is not None)


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    root = tmp_path_factory.mktemp("models")
    scripts.write(root / "rogue", scripts.MISBEHAVING)
    scripts.write(root / "neighbour", scripts.NEIGHBOUR)
    options = EngineOptions(
        model_roots=(root,),
        device="cpu",
        device_memory_nbytes=BUDGET_NBYTES,
        request_timeout_s=DEADLINE_S,
    )
    with asyncio.Runner() as runner:
        engine = create_engine(options)
        runner.run(engine.__aenter__())
        house = House(engine, runner, root)
        try:
            for name in ("rogue", "neighbour"):
                runner.run(engine.load(name, str(root / name)))
            yield house
        finally:
            runner.run(engine.__aexit__(None, None, None))


@pytest.fixture(autouse=True)
def nothing_remains(house: House) -> Iterator[None]:
    """Whatever a test did: the model serves again, and the books are right."""
    yield
    house.run(_serving(house))
    assert house.engine.health() is None
    assert [model.name for model in house.engine.models()] == ["neighbour", "rogue"]
    assert house.reserved() == house.held()


async def _serving(house: House) -> None:
    await house.pid()


def misbehave(house: House, body: bytes, error: type[EngineError] | None) -> None:
    """One such request beside the neighbour's traffic."""

    async def scenario() -> None:
        async with house.neighbour_served():
            if error is None:
                await house.ask("rogue", body)
            else:
                with pytest.raises(error):
                    await house.ask("rogue", body)
            await house.pid()

    house.run(scenario())


@pytest.mark.parametrize(
    ("body", "error"),
    [
        (do("raise_"), InferenceFailed),
        (do("recurse"), InferenceFailed),
        (do("sys_exit"), InferenceFailed),
        (do("handle_signals"), None),
        (do("allocate", megabytes=1 << 20), InsufficientMemory),
    ],
    ids=lambda value: json.loads(value)["do"] if isinstance(value, bytes) else "",
)
def test_what_the_process_survives(
    house: House, body: bytes, error: type[EngineError] | None
) -> None:
    async def pids() -> list[int]:
        return [await house.pid()]

    before = house.runner.run(pids())
    misbehave(house, body, error)
    assert house.runner.run(pids()) == before


@pytest.mark.parametrize(
    ("body", "error"),
    [
        (do("exit", status=0), InferenceFailed),
        (do("exit", status=7), InferenceFailed),
        (do("segfault"), InferenceFailed),
        (do("abort"), InferenceFailed),
        (do("kill"), InsufficientMemory),
        (do("close_files"), EngineError),
        (do("hang"), DeadlineExceeded),
        (do("spin"), DeadlineExceeded),
    ],
    ids=lambda value: json.loads(value)["do"] if isinstance(value, bytes) else "",
)
def test_what_costs_the_process(house: House, body: bytes, error: type[EngineError]) -> None:
    async def scenario() -> None:
        async with house.neighbour_served():
            before = await house.pid()
            with pytest.raises(error):
                await house.ask("rogue", body)
            await gone(before)
            assert await house.pid() != before

    house.run(scenario())


async def gone(pid: int) -> None:
    """Return once no such process is left."""
    with contextlib.suppress(psutil.NoSuchProcess):
        await asyncio.to_thread(psutil.Process(pid).wait, PATIENCE_S)


@pytest.mark.parametrize(
    ("body", "says"), [(do("exit", status=7), "status 7"), (do("segfault"), "SIGSEGV")]
)
def test_the_caller_hears_what_happened(house: House, body: bytes, says: str) -> None:
    async def scenario() -> None:
        with pytest.raises(InferenceFailed, match=says):
            await house.ask("rogue", body)

    house.run(scenario())


def test_an_allocation_beyond_the_budget_is_refused_and_not_made(house: House) -> None:
    """It is a MemoryError in the handler, long before the kernel looks for somebody to kill."""
    misbehave(house, do("allocate", megabytes=2 * (BUDGET_NBYTES >> 20)), InsufficientMemory)


def test_a_flood_of_output_does_not_fill_the_log(
    house: House, caplog: pytest.LogCaptureFixture
) -> None:
    """A part is printed, the rest is counted, and nobody waits for either."""
    caplog.set_level("INFO", "model_handler")

    def facts(event: str) -> list[dict[str, Any]]:
        return [vars(record) for record in caplog.records if record.message == event]

    async def until_reported() -> None:
        while sum(fact["nbytes"] for fact in facts("output dropped")) < 60 << 20:
            await house.pid()

    misbehave(house, do("print_much", megabytes=64), None)
    house.run(until_reported())
    assert 0 < sum(len(fact["line"]) for fact in facts("output")) < 1 << 20


def test_output_can_be_closed(house: House) -> None:
    misbehave(house, do("close_stdout"), None)
    misbehave(house, do("raise_"), InferenceFailed)


def test_a_forked_child_does_not_answer(house: House) -> None:
    """One request, one answer, and it is the parent's."""

    async def scenario() -> None:
        async with house.neighbour_served():
            answer = await house.ask("rogue", do("fork"))
            assert isinstance(answer["child"], int)
            await house.pid()

    house.run(scenario())


def test_what_a_dead_process_left_running_is_ended(house: House) -> None:
    async def scenario() -> None:
        child = int((await house.ask("rogue", do("leave_a_child")))["child"])
        assert psutil.pid_exists(child)
        with pytest.raises(InferenceFailed):
            await house.ask("rogue", do("exit", status=1))
        await gone(child)

    house.run(scenario())


def test_killed_from_outside(house: House) -> None:
    async def scenario() -> None:
        async with house.neighbour_served():
            for _ in range(3):
                before = await house.pid()
                os.kill(before, signal.SIGKILL)
                await gone(before)
                assert await house.pid() != before

    house.run(scenario())


def test_one_that_dies_at_every_request_is_left_alone_for_a_while(house: House) -> None:
    """Refused at once, with the reason, instead of a process per request; unloading helps."""

    async def scenario() -> None:
        async with house.neighbour_served():
            said = await until_left_alone(lambda: house.ask("rogue", do("exit", status=9)))
            assert "in a row" in said
            assert "status 9" in said
            assert house.engine.health() is None
            await house.engine.unload("rogue")
            await house.engine.load("rogue", str(house.root / "rogue"))

    house.run(scenario())


async def until_left_alone(attempt: Callable[[], Awaitable[object]]) -> str:
    """The refusal that says so."""
    while True:
        try:
            await attempt()
        except WorkerDied as refusal:
            if "next attempt" in str(refusal):
                return str(refusal)
        except EngineError:
            pass


@pytest.mark.parametrize(
    ("code", "error"),
    [
        (scripts.RAISING_LOAD, ModelLoadFailed),
        (scripts.DYING_LOAD.format(signal="SIGSEGV"), ModelLoadFailed),
        (scripts.DYING_LOAD.format(signal="SIGKILL"), InsufficientMemory),
    ],
    ids=["raising", "segfault", "killed"],
)
def test_a_load_that_fails_leaves_nothing(
    house: House, code: str, error: type[EngineError], tmp_path: Path
) -> None:
    async def scenario() -> None:
        directory = scripts.write(house.root / tmp_path.name, code)
        before = len(psutil.Process().children(recursive=True))
        async with house.neighbour_served():
            for _ in range(2):
                with pytest.raises(error):
                    await house.engine.load("broken", str(directory))
                with pytest.raises(ModelNotFound):
                    house.engine.model("broken")
        assert before == len(psutil.Process().children(recursive=True))
        assert house.reserved() == house.held()

    house.run(scenario())


def test_unloading_one_that_hangs(house: House) -> None:
    """The request in flight is answered, the process is gone when the unload returns."""

    async def scenario() -> None:
        async with house.neighbour_served():
            before = await house.pid()
            hanging = asyncio.create_task(house.ask("rogue", do("hang")))
            await asyncio.sleep(0)
            await house.engine.unload("rogue")
            assert not psutil.pid_exists(before)
            with pytest.raises(EngineError):
                await hanging
            await house.engine.load("rogue", str(house.root / "rogue"))

    house.run(scenario())


def test_one_that_leaks_is_the_one_to_pay(house: House) -> None:
    """What it keeps is in the ledger; when there is no room for more, a process without the leak takes
    its place. The request that was the last straw has its answer."""

    async def scenario() -> None:
        async with house.neighbour_served():
            before, reserved = await house.pid(), house.reserved()
            kept = 0
            while (count := await house.ask("rogue", do("leak", megabytes=32))) > kept:
                kept = count
                if kept < 4:
                    assert house.reserved() > reserved + (kept - 1) * (32 << 20)
            assert count == 1
            assert kept > 4
            await gone(before)

    house.run(scenario())
