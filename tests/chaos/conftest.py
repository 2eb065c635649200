"""One engine for all of these tests: each leaves it as it was found."""

import asyncio
from collections.abc import Iterator

import pytest

from model_handler.engine.factory import create_engine
from model_handler.options import EngineOptions
from tests.chaos import scripts
from tests.chaos.house import BUDGET_NBYTES, House

DEADLINE_S = 3.0


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
