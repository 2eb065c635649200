"""The device has less memory than its budget: the capacity is corrected, and idle models are demoted.

No request is refused permanently while idle models hold the memory that it needs.
"""

from pathlib import Path

from tests.fake_cuda.gpu import MIB, OUT_OF_MEMORY
from tests.fake_cuda.gpu_server import GpuServer
from tests.fake_cuda.models import Models, nbytes

# The budget is for 21 models. The device has room for its context, workspaces and about 6
SETTINGS = {"MME_DEVICE_MEMORY": "256MiB"}
GPU = {"TOTAL": str(128 * MIB)}
COUNT = 10
FREE_NBYTES = (128 - 32) * MIB
# PyTorch tries each allocation twice: before and after it has emptied its cache
FAILS = {"code": OUT_OF_MEMORY, "count": 2, "nbytes": 4 * MIB}


def soon(gpu_server: GpuServer, name: str) -> None:
    """Assert that the model is served at the first or second attempt."""
    if (status := gpu_server.status(name)) != 200:
        assert status == 507
        assert gpu_server.status(name) == 200


def load_soon(gpu_server: GpuServer, artifact: Path) -> None:
    if (response := gpu_server.client.load(artifact.name, artifact)).status_code != 200:
        assert response.status_code == 507
        assert gpu_server.client.load(artifact.name, artifact).status_code == 200


def test_a_budget_larger_than_the_device(gpu_server: GpuServer, models: Models) -> None:
    """More models than fit are loaded and served, and the capacity is corrected to the real one."""
    artifacts = [models.classifier(seed) for seed in range(1, COUNT + 1)]
    for artifact in artifacts:
        load_soon(gpu_server, artifact)
    for artifact in [*artifacts, *reversed(artifacts)]:
        soon(gpu_server, artifact.name)
    assert gpu_server.client.names() == {artifact.name for artifact in artifacts}
    assert gpu_server.capacity() <= FREE_NBYTES
    assert gpu_server.reserved() <= gpu_server.capacity()
    assert gpu_server.reserved() >= 3 * nbytes(artifacts[0])


def test_at_a_load(gpu_server: GpuServer, models: Models) -> None:
    """The allocator has no free block that is large enough for the model."""
    gpu_server.load([models.classifier(seed) for seed in (1, 2)])
    gpu_server.machine.inject("malloc", **FAILS)
    large = models.large(48 * MIB)
    load_soon(gpu_server, large)
    assert not gpu_server.machine.pending("malloc")
    for name in (large.name, models.classifier(1).name, models.classifier(2).name):
        soon(gpu_server, name)


def test_at_a_promotion(gpu_server: GpuServer, models: Models) -> None:
    artifacts = [models.classifier(seed) for seed in range(1, COUNT + 1)]
    for artifact in artifacts:
        load_soon(gpu_server, artifact)
    absent = next(artifact for artifact in artifacts if not gpu_server.resident(artifact))
    gpu_server.machine.inject("malloc", **FAILS)
    soon(gpu_server, absent.name)
    assert gpu_server.resident(absent)


def test_at_a_forward(gpu_server: GpuServer, models: Models) -> None:
    """Idle models are demoted to make room for activations."""
    artifacts = [models.classifier(seed) for seed in (1, 2, 3)]
    for name in gpu_server.load(artifacts):
        assert gpu_server.status(name) == 200
    gpu_server.machine.inject("malloc", OUT_OF_MEMORY, count=2)
    many = {"inputs": ["the quick brown fox jumps over the lazy dog " * 5] * 2000}
    response = gpu_server.client.invoke(artifacts[0].name, many)
    assert response.status_code == 200, response.text
    assert not gpu_server.machine.pending("malloc")
    for artifact in artifacts:
        assert gpu_server.status(artifact.name) == 200


def test_a_model_larger_than_the_device(gpu_server: GpuServer, models: Models) -> None:
    """Each load is refused with 507, and the other models stay loaded."""
    gpu_server.load([models.classifier(1)])
    large = models.large(200 * MIB)
    for _ in range(2):
        assert gpu_server.client.load(large.name, large).status_code == 507
        assert gpu_server.client.names() == {models.classifier(1).name}
    soon(gpu_server, models.classifier(1).name)
