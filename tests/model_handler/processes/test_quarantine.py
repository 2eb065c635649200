"""Artifacts that would end or block a worker are refused, with the reason; nothing else notices."""

import asyncio
import json
import os
import shutil
import signal
import time
from collections.abc import AsyncIterator, Coroutine, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from model_handler.engine.engine import Engine
from model_handler.engine.factory import create_engine
from model_handler.errors import ModelLoadFailed, Unavailable
from model_handler.messages import InferenceRequest
from model_handler.options import EngineOptions
from model_handler.processes import quarantine
from tests import artifacts
from tests.model_handler.descendants import Descendants
from tests.model_handler.processes import hostile_artifacts as hostile

TEXT = InferenceRequest(b'{"inputs": "hello"}', "application/json")
PATIENCE_S = 60.0
AT_ONCE_S = 0.5  # of a load that opens nothing, on a busy machine


@dataclass
class Running:
    """An engine with a neighbour that is asked all the while."""

    engine: Engine
    runner: asyncio.Runner
    root: Path
    processes: Descendants

    def run(self, scenario: Coroutine[Any, Any, None]) -> None:
        async def within() -> None:
            async with asyncio.timeout(PATIENCE_S), self._neighbour_served():
                await scenario

        self.runner.run(within())

    @asynccontextmanager
    async def _neighbour_served(self) -> AsyncIterator[None]:
        right = await self._ask()
        workers = {one.pid for one in self.processes.named("mme-worker")}

        async def ask_on() -> None:
            while True:
                assert await self._ask() == right
                assert self.engine.health() is None

        asking = asyncio.create_task(ask_on())
        try:
            yield
            assert not asking.done() or asking.result() is None
        finally:
            asking.cancel()
        assert {one.pid for one in self.processes.named("mme-worker")} == workers

    async def _ask(self) -> tuple[str, Any]:
        """Label and score, which depends on the batch in its last digits."""
        (answer,) = json.loads((await self.engine.invoke("neighbour", TEXT)).body)
        return answer["label"], pytest.approx(answer["score"])

    async def refusal(self, directory: Path) -> str:
        with pytest.raises(ModelLoadFailed) as refused:
            await self.engine.load("hostile", str(directory))
        return str(refused.value)

    async def serves(self, directory: Path) -> None:
        await self.engine.load("sound", str(directory))
        await self.engine.invoke("sound", TEXT)
        await self.engine.unload("sound")


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    root = tmp_path_factory.mktemp("models")
    artifacts.bert_classifier(root / "neighbour")
    processes = Descendants()
    options = EngineOptions(model_roots=(root,), device="cpu", workers=1, request_timeout_s=10)
    with asyncio.Runner() as runner:
        engine = create_engine(options)
        runner.run(engine.__aenter__())
        try:
            runner.run(engine.load("neighbour", str(root / "neighbour")))
            yield Running(engine, runner, root, processes)
        finally:
            runner.run(engine.__aexit__(None, None, None))
    assert not processes.named("mme-reader")


@pytest.fixture
def model(running: Running) -> Path:
    return running.root / "neighbour"


@pytest.fixture
def directory(running: Running, tmp_path: Path) -> Path:
    """For one artifact; not yet made."""
    return running.root / tmp_path.name


def test_loads_that_end_a_process_do_not_make_the_container_sick(
    running: Running, model: Path, directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(quarantine, "CPU_S", 1.0)

    hostile.endless(model, directory)
    (directory / "README.md").write_text("content of its own")

    async def scenario() -> None:
        assert "CPU time" in await running.refusal(directory)
        for _ in range(8):
            await running.refusal(directory)
        assert running.engine.health() is None

    running.run(scenario())


def test_what_was_refused_once_is_refused_at_once(
    running: Running, model: Path, directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(quarantine, "CPU_S", 1.0)

    async def scenario() -> None:
        hostile.endless(model, directory)
        (directory / "README.md").write_text("content that is copied")
        first = await running.refusal(directory)
        shutil.copytree(directory, directory.with_name("copied"))
        began = time.monotonic()
        assert await running.refusal(directory.with_name("copied")) == first
        assert time.monotonic() - began < 1.0  # an attempt takes longer

    running.run(scenario())


def test_a_template_that_grows(running: Running, model: Path, directory: Path) -> None:
    async def scenario() -> None:
        assert "memory" in await running.refusal(hostile.swelling(model, directory))

    running.run(scenario())


def test_a_text_that_grows(
    running: Running, model: Path, directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(quarantine, "MEMORY_NBYTES", 192 << 20)

    async def scenario() -> None:
        assert "SIGABRT" in await running.refusal(hostile.growing(model, directory))

    running.run(scenario())


def test_a_pattern_that_backtracks(running: Running, model: Path, directory: Path) -> None:
    async def scenario() -> None:
        assert "Regex" in await running.refusal(hostile.backtracking(model, directory))

    running.run(scenario())


def test_more_memory_than_the_files_have(running: Running, model: Path, directory: Path) -> None:
    async def scenario() -> None:
        asking = hostile.oversized(model, directory, vocab_size=1 << 30)
        assert "vocab_size" in await running.refusal(asking)

    running.run(scenario())


def test_an_endless_artifact_delays_no_other_load(
    running: Running, model: Path, directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(quarantine, "CPU_S", 3.0)
    other = hostile.changed(model, directory.with_name("other"), "config.json", _relabel)

    async def scenario() -> None:
        hanging = asyncio.create_task(running.refusal(hostile.endless(model, directory)))
        await running.serves(model)
        await running.serves(other)
        assert not hanging.done()
        assert "CPU time" in await hanging

    running.run(scenario())


def test_new_content_and_its_copies_are_loaded(
    running: Running, model: Path, directory: Path
) -> None:
    hostile.changed(model, directory, "config.json", _relabel)
    copy = directory.with_name("same")
    shutil.copytree(directory, copy)

    async def scenario() -> None:
        await running.serves(directory)
        readers = running.processes.named("mme-reader")
        await running.serves(copy)
        assert running.processes.named("mme-reader") == readers

    running.run(scenario())


def test_loads_of_one_content_share_an_attempt(
    running: Running, model: Path, directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(quarantine, "CPU_S", 1.0)
    hostile.endless(model, directory)
    (directory / "README.md").write_text("loaded several times")

    async def scenario() -> None:
        names = [f"hostile-{n}" for n in range(4)]
        loads = [running.engine.load(name, str(directory)) for name in names]
        results = await asyncio.gather(*loads, return_exceptions=True)
        assert {str(each) for each in results} == {str(results[0])}
        assert "CPU time" in str(results[0])

    running.run(scenario())


def test_a_config_that_takes_long_to_parse(running: Running, model: Path, directory: Path) -> None:
    """The event loop, which answers /ping, is never busy with it, and another load does not wait."""
    hostile.heavy_config(model, directory)

    async def scenario() -> None:
        inspected = asyncio.create_task(running.refusal(directory))
        loaded = asyncio.create_task(running.serves(model))
        before, longest_s = time.monotonic(), 0.0
        while not loaded.done():
            await asyncio.sleep(0)
            now = time.monotonic()
            before, longest_s = now, max(longest_s, now - before)
        assert longest_s < AT_ONCE_S
        await inspected

    running.run(scenario())


def test_a_reader_that_is_killed_is_replaced(
    running: Running, model: Path, directory: Path
) -> None:
    async def scenario() -> None:
        for reader in running.processes.named("mme-reader"):
            os.kill(reader.pid, signal.SIGKILL)
        while True:
            try:
                await running.serves(model)
            except (ModelLoadFailed, Unavailable):
                continue  # it was sent to one whose end was not known yet
            break
        hostile.changed(model, directory, "config.json", _relabel_again)
        await running.serves(directory)

    running.run(scenario())


def test_a_process_that_ended_is_replaced_before_the_next_load(
    running: Running, model: Path, directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(quarantine, "PREPARE_AFTER_S", 0.0)
    monkeypatch.setattr(quarantine, "CPU_S", 0.5)
    hostile.endless(model, directory)
    (directory / "README.md").write_text("ends the process that is kept")

    async def scenario() -> None:
        await running.serves(model)
        before = running.processes.named("mme-reader")
        await running.refusal(directory)
        while True:
            await running.serves(model)
            after = running.processes.named("mme-reader")
            if len(after) == len(before):
                break
        assert after != before

    running.run(scenario())


def _relabel(config: dict[str, Any]) -> None:
    config["id2label"] = {"0": "left", "1": "right"}
    config["label2id"] = {"left": 0, "right": 1}


def _relabel_again(config: dict[str, Any]) -> None:
    config["id2label"] = {"0": "up", "1": "down"}
    config["label2id"] = {"up": 0, "down": 1}
