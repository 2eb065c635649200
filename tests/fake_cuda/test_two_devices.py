"""A worker for one of several devices uses no memory of the others."""

from tests.fake_cuda.conftest import CONTEXT_NBYTES
from tests.fake_cuda.gpu_server import GpuServer
from tests.fake_cuda.models import Models, contents

SETTINGS = {"MME_DEVICE": "cuda:1"}
GPU = {"DEVICES": "2"}


def test_the_second_device(gpu_server: GpuServer, models: Models) -> None:
    artifacts = [models.classifier(seed) for seed in (1, 2)]
    for name in gpu_server.load(artifacts):
        assert gpu_server.status(name) == 200
    worker = gpu_server.worker()
    for artifact in artifacts:
        assert not worker.missing(contents(artifact), device=1)
    assert gpu_server.machine.used_nbytes(device=0) == 0
    assert gpu_server.machine.used_nbytes(device=1) > CONTEXT_NBYTES


def test_a_replaced_worker_uses_the_same_device(gpu_server: GpuServer, models: Models) -> None:
    """A dead process leaves no memory on its device, and its replacement uses the same device."""
    gpu_server.load([models.classifier(1)])
    gpu_server.worker().end()
    gpu_server.served(models.classifier(1).name)
    assert gpu_server.machine.used_nbytes(device=0) == 0
    counters = gpu_server.worker().counters()
    assert gpu_server.machine.used_nbytes(device=1) == counters["used.1"]


def test_the_budget_is_that_of_the_device(gpu_server: GpuServer, models: Models) -> None:
    """85 % of its own free memory, regardless of the first device."""
    gpu_server.load([models.classifier(1)])
    total = 512 << 20
    assert gpu_server.capacity() <= 0.85 * (total - CONTEXT_NBYTES)
    assert gpu_server.capacity() >= 0.75 * (total - CONTEXT_NBYTES)
