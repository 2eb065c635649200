"""The server starts on a GPU, serves all API calls, and holds no memory of unloaded models."""

from tests.contract.targets import log_lines
from tests.fake_cuda.conftest import CONTEXT_NBYTES, TOTAL_NBYTES
from tests.fake_cuda.gpu import MIB
from tests.fake_cuda.gpu_server import GpuServer
from tests.fake_cuda.models import Models, nbytes


def test_every_api_call(gpu_server: GpuServer, models: Models) -> None:
    path = models.classifier(1)
    assert gpu_server.client.load("A", path).status_code == 200
    assert gpu_server.client.names() == {"A"}
    assert gpu_server.client.describe("A").json()["modelUrl"] == str(path)
    assert gpu_server.client.invoke("A").status_code == 200
    assert gpu_server.client.ping().status_code == 200
    assert gpu_server.client.unload("A").status_code == 200
    assert gpu_server.client.invoke("A").status_code == 404


def test_the_log_names_the_device(gpu_server: GpuServer) -> None:
    gpu_server.worker()
    line = log_lines(gpu_server.process, '"event":"device"')[0]
    assert "Fake GPU 0" in line
    assert '"compute_capability":"8.6"' in line
    assert '"driver_supports_cuda":"13.0"' in line


def test_an_unloaded_model_leaves_no_memory_in_use(gpu_server: GpuServer, models: Models) -> None:
    """The allocator's cached memory is usable for a model of any size: a model of nearly the whole budget
    fits afterwards, although budget and earlier models together exceed the device."""
    artifacts = [models.classifier(seed) for seed in range(1, 11)]
    for _ in range(2):
        for name in gpu_server.load(artifacts):
            assert gpu_server.status(name) == 200
        assert gpu_server.worker().held_nbytes() >= sum(map(nbytes, artifacts))
        gpu_server.client.clear()
        assert gpu_server.reserved() == 0
    assert sum(map(nbytes, artifacts)) + gpu_server.capacity() > TOTAL_NBYTES - CONTEXT_NBYTES
    gpu_server.load([models.large(gpu_server.capacity() - 4 * MIB)])


def test_the_rest_is_a_context_and_pinned_buffers(gpu_server: GpuServer, models: Models) -> None:
    gpu_server.load([models.classifier(1)])
    counters = gpu_server.worker().counters()
    assert counters["context.0"] == CONTEXT_NBYTES
    assert counters["pinned"] <= 192 * MIB
    assert counters["registered"] == 0
