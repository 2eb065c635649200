"""After a lost device, a new process serves all models again within seconds.

The batch or load that lost the device fails with a 5xx other than 507; other requests fail at most with 503.
"""

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.contract.waiting import until
from tests.fake_cuda.gpu import ASSERT, CONTEXT_DESTROYED, ILLEGAL_ADDRESS, MIB
from tests.fake_cuda.gpu_server import SERVED_AGAIN_S, GpuServer
from tests.fake_cuda.models import Models

SETTINGS = {"MME_DEVICE_MEMORY": "40MiB"}  # for three models


@pytest.fixture
def artifacts(gpu_server: GpuServer, models: Models) -> list[Path]:
    """Two loaded models that have served a request."""
    artifacts = [models.classifier(seed) for seed in (1, 2)]
    for name in gpu_server.load(artifacts):
        assert gpu_server.status(name) == 200
    return artifacts


def check(gpu_server: GpuServer, artifacts: list[Path]) -> None:
    """Assert that all models are served with the bytes of their files, and that each is reserved once."""
    for artifact in artifacts:
        gpu_server.served(artifact.name)
    assert gpu_server.client.names() == {artifact.name for artifact in artifacts}
    assert all(gpu_server.resident(artifact) for artifact in artifacts)
    gpu_server.check_ledger(artifacts)
    assert gpu_server.client.ping().status_code == 200


@pytest.mark.parametrize("code", [ASSERT, ILLEGAL_ADDRESS, CONTEXT_DESTROYED])
def test_while_idle(gpu_server: GpuServer, artifacts: list[Path], code: int) -> None:
    """The next request of any model detects the lost device."""
    before = gpu_server.worker().pid
    gpu_server.machine.inject("call", code)
    assert gpu_server.status(artifacts[0].name) in (200, 503)
    check(gpu_server, artifacts)
    assert gpu_server.worker().pid != before


@pytest.mark.parametrize("point", ["malloc", "copy"])
def test_while_loading(
    gpu_server: GpuServer, models: Models, artifacts: list[Path], point: str
) -> None:
    """The load fails and leaves nothing; a second load succeeds."""
    third = models.classifier(3)
    gpu_server.machine.inject(point, ILLEGAL_ADDRESS, nbytes=MIB // 4)
    assert gpu_server.client.load(third.name, third).status_code in (500, 503)
    assert not gpu_server.machine.pending(point)
    check(gpu_server, artifacts)
    gpu_server.load([third])
    check(gpu_server, [*artifacts, third])


def test_while_promoting(gpu_server: GpuServer, models: Models, artifacts: list[Path]) -> None:
    """The new worker loads the model that was being promoted, and all models that were on the device."""
    more = [models.classifier(seed) for seed in (3, 4, 5)]
    gpu_server.load(more)
    (absent, *_) = (each for each in artifacts if not gpu_server.resident(each))
    gpu_server.machine.inject("copy", ILLEGAL_ADDRESS, nbytes=MIB // 4)
    assert gpu_server.status(absent.name) in (200, 503)
    assert not gpu_server.machine.pending("copy")
    for artifact in [*artifacts, *more]:
        gpu_server.erase(artifact)
        gpu_server.served(artifact.name)
        assert gpu_server.resident(artifact)
    assert gpu_server.client.names() == {each.name for each in [*artifacts, *more]}
    gpu_server.check_ledger([*artifacts, *more][:3])


def test_while_computing(gpu_server: GpuServer, artifacts: list[Path]) -> None:
    """An assert in a kernel is not an out-of-memory error, and the other model is served again."""
    gpu_server.machine.inject("launch", ASSERT, after=3)
    response = gpu_server.client.invoke(artifacts[0].name)
    assert response.status_code in (500, 503)
    assert not gpu_server.machine.pending("launch")
    check(gpu_server, artifacts)


def test_ping_fails_while_every_worker_loses_its_device(
    gpu_server: GpuServer, artifacts: list[Path]
) -> None:
    """Each new process loses its device as well; once the faults end, the server recovers."""
    gpu_server.machine.inject("call", ASSERT, count=1000)
    assert gpu_server.status(artifacts[0].name) in (500, 503)
    until(has_status(gpu_server, 503), within_s=SERVED_AGAIN_S)
    assert gpu_server.status(artifacts[0].name) == 503
    gpu_server.machine.heal()
    until(has_status(gpu_server, 200), within_s=SERVED_AGAIN_S)
    check(gpu_server, artifacts)


def has_status(gpu_server: GpuServer, status: int) -> Callable[[], bool]:
    return lambda: gpu_server.client.ping().status_code == status
