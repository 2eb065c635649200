"""Nothing one model's code does harms another: real processes, real signals, a neighbour that is asked
all the while and never gets anything but its right answer.

After every one of these the model serves again, its bytes are in the ledger once, and /ping says well.
"""

import asyncio
import contextlib
import json
import os
import signal
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import psutil
import pytest

from model_handler.errors import (
    DeadlineExceeded,
    EngineError,
    InferenceFailed,
    InsufficientMemory,
    ModelLoadFailed,
    ModelNotFound,
    WorkerDied,
)
from tests.chaos import scripts
from tests.chaos.house import BUDGET_NBYTES, PATIENCE_S, House
from tests.chaos.scripts import do


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
    """A request that still reached it is told why it died; the next one has a new process."""

    async def successor() -> int:
        while True:
            with contextlib.suppress(InsufficientMemory):
                return await house.pid()

    async def scenario() -> None:
        async with house.neighbour_served():
            for _ in range(3):
                before = await house.pid()
                os.kill(before, signal.SIGKILL)
                await gone(before)
                assert await successor() != before

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


def with_models() -> set[int]:
    """The processes that were given a model."""
    family = psutil.Process().children(recursive=True)
    return {each.pid for each in family if each.name() == "mme-isolate"}


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
        before = with_models()
        async with house.neighbour_served():
            for _ in range(2):
                with pytest.raises(error):
                    await house.engine.load("broken", str(directory))
                with pytest.raises(ModelNotFound):
                    house.engine.model("broken")
        assert with_models() == before
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


def test_a_spare_that_was_killed_is_not_used(house: House) -> None:
    """The kernel takes it first when memory is short."""

    async def scenario() -> None:
        for _ in range(2):
            (spare,) = spares()
            spare.kill()
            spare.wait()
            await house.engine.unload("rogue")
            await house.engine.load("rogue", str(house.root / "rogue"))
            assert await house.pid() != spare.pid

    house.run(scenario())


def test_a_load_is_given_the_spare(house: House) -> None:
    async def scenario() -> None:
        (spare,) = spares()
        await house.engine.unload("rogue")
        await house.engine.load("rogue", str(house.root / "rogue"))
        assert await house.pid() == spare.pid

    house.run(scenario())


def spares() -> list[psutil.Process]:
    """Those that are ready for a model; waits while one is being forked."""
    while True:
        family = psutil.Process().children(recursive=True)
        if found := [each for each in family if each.name() == "mme-spare"]:
            return found
