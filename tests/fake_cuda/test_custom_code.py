"""Code from an artifact runs in an isolated process, and all of its device memory is reserved."""

import json
from pathlib import Path

import pytest

from tests.fake_cuda.conftest import CONTEXT_NBYTES
from tests.fake_cuda.gpu import MIB, FakeProcess
from tests.fake_cuda.gpu_server import GpuServer
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


def process(gpu_server: GpuServer) -> FakeProcess:
    (found,) = (each for each in gpu_server.machine.processes() if each.name == "mme-isolated")
    return found


def used_nbytes(gpu_server: GpuServer) -> int:
    return process(gpu_server).counters()["used.0"]


def ask(gpu_server: GpuServer, mebibytes: int) -> dict[str, object]:
    response = gpu_server.client.invoke("custom", {"mebibytes": mebibytes})
    assert response.status_code == 200, response.text
    return dict(json.loads(response.content))


def test_custom_code_uses_the_device(gpu_server: GpuServer, artifact: Path) -> None:
    gpu_server.load([artifact])
    assert ask(gpu_server, 1) == {"device": "cuda:0", "nbytes": MIB}


def test_the_context_is_reserved_too(gpu_server: GpuServer, artifact: Path) -> None:
    gpu_server.load([artifact])
    assert used_nbytes(gpu_server) >= CONTEXT_NBYTES + HELD * MIB
    assert gpu_server.reserved() == pytest.approx(used_nbytes(gpu_server), abs=TOLERANCE_NBYTES)


def test_the_reservation_grows_with_the_allocators_memory(
    gpu_server: GpuServer, artifact: Path
) -> None:
    gpu_server.load([artifact])
    before = gpu_server.reserved()
    ask(gpu_server, TEMPORARY)
    assert used_nbytes(gpu_server) >= CONTEXT_NBYTES + (HELD + TEMPORARY) * MIB
    assert gpu_server.reserved() >= before + (TEMPORARY - 4) * MIB
    assert gpu_server.reserved() == pytest.approx(used_nbytes(gpu_server), abs=TOLERANCE_NBYTES)


def test_an_unload_releases_everything(gpu_server: GpuServer, artifact: Path) -> None:
    gpu_server.load([artifact])
    ask(gpu_server, TEMPORARY)
    assert gpu_server.client.unload("custom").status_code == 200
    assert [each.name for each in gpu_server.machine.processes()] == ["mme-worker"]
    assert gpu_server.reserved() == 0


def test_idle_models_make_room_for_its_growth(
    gpu_server: GpuServer, models: Models, artifact: Path
) -> None:
    """Idle models are demoted, and promoted again on their next request."""
    others = [models.classifier(seed) for seed in range(1, 21)]
    gpu_server.load([artifact, *others])
    for _ in range(3):
        ask(gpu_server, 2 * TEMPORARY)
        for other in others:
            assert gpu_server.status(other.name) == 200
    assert gpu_server.reserved() <= gpu_server.capacity()
