"""The benchmark's own platform, with a server that has memory for two models."""

import asyncio
import json
from pathlib import Path

from benchmarks import on_demand, traffic
from tests.benchmarks.fake_server import after, serving

MODELS = ("a", "b", "c", "d")
ROOM = 2


class Fake:
    """Refuses a third model, and fails the test when a model that is computing is unloaded."""

    def __init__(self) -> None:
        self.loaded: set[str] = set()
        self.computing: list[str] = []
        self.loads = 0

    async def answer(self, verb: str, path: str, body: bytes) -> int:
        match verb, path.strip("/").split("/"):
            case "POST", ["models"]:
                return await self._load(json.loads(body)["model_name"])
            case "POST", ["models", name, "invoke"]:
                return await self._invoke(name)
            case "DELETE", ["models", name]:
                assert name not in self.computing
                found = name in self.loaded
                self.loaded.discard(name)
                return 200 if found else 404
        return 400

    async def _load(self, name: str) -> int:
        if len(self.loaded) == ROOM:
            return 507
        assert name not in self.loaded
        self.loaded.add(name)
        self.loads += 1
        await after(0.002)
        return 200

    async def _invoke(self, name: str) -> int:
        if name not in self.loaded:
            return 404
        self.computing.append(name)
        await after(0.002)
        self.computing.remove(name)
        return 200


def replay(skew: float) -> tuple[on_demand.Outcome, Fake]:
    fake = Fake()
    order = traffic.draws(traffic.zipf(len(MODELS), skew), seed=1)

    async def run() -> on_demand.Outcome:
        async with serving(fake.answer) as port:
            trace = on_demand.Trace(MODELS, order, ["x"], 0.4)
            return await on_demand.replay(port, trace, 4, Path("/models"))

    return asyncio.run(run()), fake


def test_every_request_is_answered_whatever_has_to_leave() -> None:
    outcome, fake = replay(skew=0.0)
    assert outcome.statuses == {}
    assert outcome.refusals > 0
    assert outcome.misses is not None
    assert fake.loads <= outcome.misses.count  # callers share a load


def test_popular_models_stay() -> None:
    even, _ = replay(skew=0.0)
    skewed, _ = replay(skew=3.0)
    assert skewed.hit_ratio > even.hit_ratio


def test_all_are_loaded() -> None:
    fake = Fake()

    async def run() -> None:
        async with serving(fake.answer) as port:
            await on_demand.load_all(port, MODELS[:ROOM], 8, Path("/models"))

    asyncio.run(run())
    assert fake.loaded == set(MODELS[:ROOM])
