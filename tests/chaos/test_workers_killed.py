"""Two device workers are killed in turn under load: every answer is right or says that the worker died."""

import asyncio
import json
from collections import Counter
from contextlib import suppress
from pathlib import Path

import psutil

from model_handler.engine.engine import Engine
from model_handler.engine.factory import create_engine
from model_handler.errors import Unavailable
from model_handler.messages import InferenceRequest
from model_handler.options import EngineOptions
from tests.contract.artifacts import Zoo
from tests.model_handler import ledger

PATIENCE_S = 90.0
MODELS = "ABAB"  # first letters of the right labels
CLIENTS_PER_MODEL, DEATHS, BETWEEN = 4, 6, 40
TEXT = InferenceRequest(json.dumps({"inputs": "hello"}).encode(), "application/json")


def workers() -> dict[int, psutil.Process]:
    family = psutil.Process().children(recursive=True)
    return {each.pid: each for each in family if _name(each) == "mme-worker"}


def _name(process: psutil.Process) -> str:
    with suppress(psutil.NoSuchProcess):  # other processes may end at any time
        return str(process.name())
    return ""


class Storm:
    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self.outcomes: Counter[str] = Counter()
        self.over = False
        self._news = asyncio.Event()  # replaced with each outcome

    async def client(self, name: str) -> None:
        while not self.over:
            try:
                answer = await self._engine.invoke(name, TEXT)
            except Unavailable:
                self._count("failed")
                await asyncio.sleep(0)
            else:
                assert json.loads(answer.body)[0]["label"].startswith(name[0])
                self._count(name)

    def _count(self, outcome: str) -> None:
        self.outcomes[outcome] += 1
        self._news.set()
        self._news = asyncio.Event()

    async def served(self) -> None:
        """Return when every model has answered some more."""
        before = self.outcomes.copy()
        names = [model.name for model in self._engine.models()]
        while any(self.outcomes[name] < before[name] + BETWEEN for name in names):
            await self._news.wait()

    async def kill_in_turn(self) -> None:
        """Each time the worker that has lived longest, once both run."""
        for _ in range(DEATHS):
            await self.served()
            while len(alive := workers()) < 2:
                await self._news.wait()
            min(alive.values(), key=psutil.Process.create_time).kill()
        await self.served()
        self.over = True


def test_two_workers_killed_in_turn(tmp_path: Path) -> None:
    async def scenario() -> None:
        zoo = Zoo(tmp_path)
        options = EngineOptions(model_roots=(tmp_path,), device="cpu", workers=2)
        async with asyncio.timeout(PATIENCE_S), create_engine(options) as engine:
            names = [f"{letter}{number}" for number, letter in enumerate(MODELS)]
            for name in names:
                await engine.load(name, str(zoo.a if name[0] == "A" else zoo.b))
            storm = Storm(engine)
            async with asyncio.TaskGroup() as group:
                for name in names * CLIENTS_PER_MODEL:
                    group.create_task(storm.client(name))
                group.create_task(storm.kill_in_turn())
            for name in names:
                await engine.unload(name)
            assert ledger.residency(engine).device.reserved == 0

    asyncio.run(scenario())
