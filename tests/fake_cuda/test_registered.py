"""Weights are copied from registered pages of the page cache, with the same result."""

import shutil
from pathlib import Path

import pytest

from tests.fake_cuda.gpu import MIB, OUT_OF_MEMORY
from tests.fake_cuda.gpu_server import GpuServer
from tests.fake_cuda.models import Models, nbytes

# Memory for three models on the device, and four registered files
SETTINGS = {"MME_DEVICE_MEMORY": "40MiB", "MME_REGISTERED_MEMORY": "50MiB"}
COUNT = 6


@pytest.fixture
def artifacts(models: Models) -> list[Path]:
    return [models.classifier(seed) for seed in range(1, COUNT + 1)]


def promoted(gpu_server: GpuServer, artifacts: list[Path]) -> None:
    """Serve all models in turn and compare each with its file."""
    for artifact in artifacts:
        if not gpu_server.resident(artifact):
            gpu_server.erase(artifact)
        assert gpu_server.status(artifact.name) == 200
        assert gpu_server.resident(artifact)


def test_the_bytes_are_the_same(gpu_server: GpuServer, artifacts: list[Path]) -> None:
    gpu_server.load(artifacts)
    for _ in range(2):
        promoted(gpu_server, artifacts)
    assert gpu_server.worker().counters()["registrations"] >= 4


def test_no_more_is_registered_than_allowed(gpu_server: GpuServer, artifacts: list[Path]) -> None:
    gpu_server.load(artifacts)
    promoted(gpu_server, artifacts)
    registered = gpu_server.worker().counters()["registered"]
    assert 3 * nbytes(artifacts[0]) <= registered <= 50 * MIB
    gpu_server.client.clear()
    assert gpu_server.worker().counters()["registered"] == 0


def test_a_file_that_was_replaced_is_read_again(
    gpu_server: GpuServer, models: Models, artifacts: list[Path]
) -> None:
    """The replacement has the same name and the weights of another model."""
    copy = models.root / "replaced"
    shutil.copytree(artifacts[0], copy)
    gpu_server.load([copy])
    assert gpu_server.client.unload(copy.name).status_code == 200
    shutil.copy(artifacts[1] / "model.safetensors", copy / "new")
    (copy / "new").rename(copy / "model.safetensors")
    gpu_server.erase(artifacts[1])
    gpu_server.load([copy])
    assert gpu_server.resident(artifacts[1])


@pytest.mark.parametrize("count", [1, 2])
def test_a_registration_that_the_driver_refuses(
    gpu_server: GpuServer, artifacts: list[Path], count: int
) -> None:
    """Models are then copied without registration, and no later launch reports the driver's error."""
    gpu_server.replace_worker()
    gpu_server.machine.inject("register", OUT_OF_MEMORY, count=count)
    gpu_server.load(artifacts)
    promoted(gpu_server, artifacts)
    assert not gpu_server.machine.pending("register")
