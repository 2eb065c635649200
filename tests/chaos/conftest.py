"""One engine shared by all of these tests; each test must leave it healthy."""

import asyncio
from collections.abc import Iterator

import pytest

from model_handler.engine.factory import create_engine
from model_handler.options import EngineOptions
from tests.chaos import scripts
from tests.chaos.running_engine import BUDGET_NBYTES, RunningEngine

DEADLINE_S = 3.0


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningEngine]:
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
        running = RunningEngine(engine, runner, root)
        try:
            for name in ("rogue", "neighbour"):
                runner.run(engine.load(name, str(root / name)))
            yield running
        finally:
            runner.run(engine.__aexit__(None, None, None))


@pytest.fixture(autouse=True)
def nothing_remains(running: RunningEngine) -> Iterator[None]:
    """After each test, the model serves again, and the reserved bytes are those of the loaded models."""
    yield
    running.run(_serving(running))
    assert running.engine.health() is None
    assert [model.name for model in running.engine.models()] == ["neighbour", "rogue"]
    assert running.reserved() == running.held()


async def _serving(running: RunningEngine) -> None:
    await running.pid()
