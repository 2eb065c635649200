"""A model whose batches repeatedly lose the device is moved to a separate process."""

from tests.fake_cuda.gpu import ASSERT
from tests.fake_cuda.gpu_server import GpuServer
from tests.fake_cuda.models import Models


def test_a_model_that_loses_the_device_twice_gets_a_process_of_its_own(
    gpu_server: GpuServer, models: Models
) -> None:
    """The next time, only its own process loses the device, and other models are served meanwhile."""
    culprit, neighbour = models.classifier(1), models.classifier(2)
    gpu_server.load([culprit, neighbour])
    for _ in range(2):
        gpu_server.machine.inject("launch", ASSERT)
        assert gpu_server.status(culprit.name) in (500, 503)
        gpu_server.served(culprit.name)
        gpu_server.served(neighbour.name)
    (own,) = gpu_server.holders(culprit)
    (shared,) = gpu_server.holders(neighbour)
    assert own.pid != shared.pid
    gpu_server.machine.inject("launch", ASSERT, pid=own.pid)
    assert gpu_server.status(culprit.name) in (500, 503)
    assert gpu_server.status(neighbour.name) == 200
    gpu_server.served(culprit.name)
    assert [each.pid for each in gpu_server.holders(neighbour)] == [shared.pid]
