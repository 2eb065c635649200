"""The code of one model cannot harm another model. The tests use real processes and signals, while a
neighbour gets requests, of which every response must be correct.

After every test, the model serves again, its bytes are reserved once, and the engine is healthy.
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
from tests.chaos.running_engine import BUDGET_NBYTES, PATIENCE_S, RunningEngine
from tests.chaos.scripts import do


def misbehave(running: RunningEngine, body: bytes, error: type[EngineError] | None) -> None:
    """Send one such request during the neighbour's traffic."""

    async def scenario() -> None:
        async with running.neighbour_served():
            if error is None:
                await running.ask("rogue", body)
            else:
                with pytest.raises(error):
                    await running.ask("rogue", body)
            await running.pid()

    running.run(scenario())


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
def test_requests_that_the_process_survives(
    running: RunningEngine, body: bytes, error: type[EngineError] | None
) -> None:
    async def pids() -> list[int]:
        return [await running.pid()]

    before = running.runner.run(pids())
    misbehave(running, body, error)
    assert running.runner.run(pids()) == before


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
def test_requests_that_end_the_process(
    running: RunningEngine, body: bytes, error: type[EngineError]
) -> None:
    async def scenario() -> None:
        async with running.neighbour_served():
            before = await running.pid()
            with pytest.raises(error):
                await running.ask("rogue", body)
            await gone(before)
            assert await running.pid() != before

    running.run(scenario())


async def gone(pid: int) -> None:
    """Return once the process has exited."""
    with contextlib.suppress(psutil.NoSuchProcess):
        await asyncio.to_thread(psutil.Process(pid).wait, PATIENCE_S)


@pytest.mark.parametrize(
    ("body", "says"), [(do("exit", status=7), "status 7"), (do("segfault"), "SIGSEGV")]
)
def test_the_error_names_the_cause(running: RunningEngine, body: bytes, says: str) -> None:
    async def scenario() -> None:
        with pytest.raises(InferenceFailed, match=says):
            await running.ask("rogue", body)

    running.run(scenario())


def test_an_allocation_beyond_the_budget_is_refused_and_not_made(running: RunningEngine) -> None:
    """The handler gets a MemoryError before the kernel's OOM killer acts."""
    misbehave(running, do("allocate", megabytes=2 * (BUDGET_NBYTES >> 20)), InsufficientMemory)


def test_a_flood_of_output_does_not_fill_the_log(
    running: RunningEngine, caplog: pytest.LogCaptureFixture
) -> None:
    """A part is logged, the rest is only counted, and the process never blocks on its output."""
    caplog.set_level("INFO", "model_handler")

    def facts(event: str) -> list[dict[str, Any]]:
        return [vars(record) for record in caplog.records if record.message == event]

    async def until_reported() -> None:
        while sum(fact["nbytes"] for fact in facts("output dropped")) < 60 << 20:
            await running.pid()

    misbehave(running, do("print_much", megabytes=64), None)
    running.run(until_reported())
    assert 0 < sum(len(fact["line"]) for fact in facts("output")) < 1 << 20


def test_output_can_be_closed(running: RunningEngine) -> None:
    misbehave(running, do("close_stdout"), None)
    misbehave(running, do("raise_"), InferenceFailed)


def test_a_forked_child_does_not_answer(running: RunningEngine) -> None:
    """The request gets exactly one response, from the parent."""

    async def scenario() -> None:
        async with running.neighbour_served():
            answer = await running.ask("rogue", do("fork"))
            assert isinstance(answer["child"], int)
            await running.pid()

    running.run(scenario())


def test_children_of_a_dead_process_are_ended(running: RunningEngine) -> None:
    async def scenario() -> None:
        child = int((await running.ask("rogue", do("leave_a_child")))["child"])
        assert psutil.pid_exists(child)
        with pytest.raises(InferenceFailed):
            await running.ask("rogue", do("exit", status=1))
        await gone(child)

    running.run(scenario())


@pytest.mark.skipif(os.getuid() != 0, reason="only root may give a process a group of its own")
def test_files_in_shared_memory_end_with_the_process(running: RunningEngine) -> None:
    """They count while they exist; those of others stay."""
    others = Path("/dev/shm/mme-test-others")
    name = f"mme-test-{os.getpid()}"

    async def scenario() -> None:
        async with running.neighbour_served():
            await running.pid()
            before = running.held()
            segment = await running.ask("rogue", do("leave", name=name, megabytes=32))
            left = [Path("/dev/shm", each) for each in (segment, name)]
            assert all(each.exists() for each in left)
            assert running.held() - before >= 60 << 20
            with pytest.raises(InferenceFailed):
                await running.ask("rogue", do("exit", status=1))
            assert not any(each.exists() for each in left)

    others.touch()
    try:
        running.run(scenario())
        assert others.exists()
    finally:
        others.unlink(missing_ok=True)


def test_killed_from_outside(running: RunningEngine) -> None:
    """A request that the killed process had received gets the cause; the next one gets a new process."""

    async def successor() -> int:
        while True:
            with contextlib.suppress(InsufficientMemory):
                return await running.pid()

    async def scenario() -> None:
        async with running.neighbour_served():
            for _ in range(3):
                before = await running.pid()
                os.kill(before, signal.SIGKILL)
                await gone(before)
                assert await successor() != before

    running.run(scenario())


def test_a_process_that_dies_at_every_request_is_restarted_with_backoff(
    running: RunningEngine,
) -> None:
    """During the backoff, requests are refused immediately, with the reason. A new load resets it."""

    async def scenario() -> None:
        async with running.neighbour_served():
            reason = await until_backoff(lambda: running.ask("rogue", do("exit", status=9)))
            assert "in a row" in reason
            assert "status 9" in reason
            assert running.engine.health() is None
            await running.engine.unload("rogue")
            await running.engine.load("rogue", str(running.root / "rogue"))

    running.run(scenario())


async def until_backoff(attempt: Callable[[], Awaitable[object]]) -> str:
    """Repeat the attempt until it is refused because of the backoff. Returns the message."""
    while True:
        try:
            await attempt()
        except WorkerDied as refusal:
            if "next attempt" in str(refusal):
                return str(refusal)
        except EngineError:
            pass


def with_models() -> set[int]:
    """The isolated processes that have a model."""
    family = psutil.Process().children(recursive=True)
    return {each.pid for each in family if each.name() == "mme-isolated"}


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
    running: RunningEngine, code: str, error: type[EngineError], tmp_path: Path
) -> None:
    async def scenario() -> None:
        directory = scripts.write(running.root / tmp_path.name, code)
        before = with_models()
        async with running.neighbour_served():
            for _ in range(2):
                with pytest.raises(error):
                    await running.engine.load("broken", str(directory))
                with pytest.raises(ModelNotFound):
                    running.engine.model("broken")
        assert with_models() == before
        assert running.reserved() == running.held()

    running.run(scenario())


def test_unloading_a_model_that_hangs(running: RunningEngine) -> None:
    """The request in flight fails, and the process has exited when the unload returns."""

    async def scenario() -> None:
        async with running.neighbour_served():
            before = await running.pid()
            hanging = asyncio.create_task(running.ask("rogue", do("hang")))
            await asyncio.sleep(0)
            await running.engine.unload("rogue")
            assert not psutil.pid_exists(before)
            with pytest.raises(EngineError):
                await hanging
            await running.engine.load("rogue", str(running.root / "rogue"))

    running.run(scenario())


def test_a_model_that_leaks_affects_only_itself(running: RunningEngine) -> None:
    """Leaked memory is reserved for the model. When no more is free, its process is replaced, after the
    response of the request that exceeded the memory."""

    async def scenario() -> None:
        async with running.neighbour_served():
            before, reserved = await running.pid(), running.reserved()
            kept = 0
            while (count := await running.ask("rogue", do("leak", megabytes=32))) > kept:
                kept = count
                if kept < 4:
                    assert running.reserved() > reserved + (kept - 1) * (32 << 20)
            assert count == 1
            assert kept > 4
            await gone(before)

    running.run(scenario())


def test_a_prefork_that_was_killed_is_not_used(running: RunningEngine) -> None:
    """When memory is short, the kernel kills preforked processes first."""

    async def scenario() -> None:
        for _ in range(2):
            (prefork,) = preforks()
            prefork.kill()
            prefork.wait()
            await running.engine.unload("rogue")
            await running.engine.load("rogue", str(running.root / "rogue"))
            assert await running.pid() != prefork.pid

    running.run(scenario())


def test_a_load_uses_the_prefork(running: RunningEngine) -> None:
    async def scenario() -> None:
        (prefork,) = preforks()
        await running.engine.unload("rogue")
        await running.engine.load("rogue", str(running.root / "rogue"))
        assert await running.pid() == prefork.pid

    running.run(scenario())


def preforks() -> list[psutil.Process]:
    """The preforked processes; waits while one is being forked."""
    while True:
        family = psutil.Process().children(recursive=True)
        if found := [each for each in family if each.name() == "mme-prefork"]:
            return found
