"""Code out of an artifact has a process of its own on the device, all of whose bytes are in the ledger."""

import json
from pathlib import Path

import pytest

from tests.fake_cuda.conftest import CONTEXT_NBYTES
from tests.fake_cuda.gpu import MIB, FakeProcess
from tests.fake_cuda.house import House
from tests.fake_cuda.models import Models

HELD, TEMPORARY = 20, 64  # MiB
TOLERANCE_NBYTES = 4 * MIB
CODE = f"""
import json, torch

def model_fn(model_dir):
    return torch.ones({HELD} << 20, dtype=torch.uint8, device="cuda")

def input_fn(body, content_type):
    return json.loads(body)

def predict_fn(data, model):
    block = torch.empty(data["mebibytes"] << 20, dtype=torch.uint8, device="cuda")
    return {{"device": str(model.device), "nbytes": block.numel()}}

def output_fn(prediction, accept):
    return json.dumps(prediction)
"""


@pytest.fixture
def artifact(models: Models) -> Path:
    directory = models.root / "custom"
    if not directory.exists():
        (directory / "code").mkdir(parents=True)
        (directory / "code/inference.py").write_text(CODE)
    return directory


def process(house: House) -> FakeProcess:
    (found,) = (each for each in house.machine.processes() if each.name == "mme-isolate")
    return found


def used_nbytes(house: House) -> int:
    return process(house).counters()["used.0"]


def ask(house: House, mebibytes: int) -> dict[str, object]:
    response = house.client.invoke("custom", {"mebibytes": mebibytes})
    assert response.status_code == 200, response.text
    return dict(json.loads(response.content))


def test_it_has_the_device(house: House, artifact: Path) -> None:
    house.load([artifact])
    assert ask(house, 1) == {"device": "cuda:0", "nbytes": MIB}


def test_the_ledger_counts_the_context_too(house: House, artifact: Path) -> None:
    house.load([artifact])
    assert used_nbytes(house) >= CONTEXT_NBYTES + HELD * MIB
    assert house.reserved() == pytest.approx(used_nbytes(house), abs=TOLERANCE_NBYTES)


def test_it_grows_by_what_requests_leave_in_the_allocator(house: House, artifact: Path) -> None:
    house.load([artifact])
    before = house.reserved()
    ask(house, TEMPORARY)
    assert used_nbytes(house) >= CONTEXT_NBYTES + (HELD + TEMPORARY) * MIB
    assert house.reserved() >= before + (TEMPORARY - 4) * MIB
    assert house.reserved() == pytest.approx(used_nbytes(house), abs=TOLERANCE_NBYTES)


def test_nothing_of_it_is_left(house: House, artifact: Path) -> None:
    house.load([artifact])
    ask(house, TEMPORARY)
    assert house.client.unload("custom").status_code == 200
    assert [each.name for each in house.machine.processes()] == ["mme-worker"]
    assert house.reserved() == 0


def test_idle_models_make_room_for_its_growth(house: House, models: Models, artifact: Path) -> None:
    """They are demoted, and come back when they are asked for."""
    others = [models.classifier(seed) for seed in range(1, 21)]
    house.load([artifact, *others])
    for _ in range(3):
        ask(house, 2 * TEMPORARY)
        for other in others:
            assert house.status(other.name) == 200
    assert house.reserved() <= house.capacity()
