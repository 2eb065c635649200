"""The same with four devices."""

import pytest

from tests.fake_cuda.gpu import MIB
from tests.fake_cuda.gpu_server import GpuServer
from tests.fake_cuda.models import Models

DEVICES = 4
SETTINGS = {"MME_DEVICE_MEMORY": "28MiB", "MME_HOST_MEMORY": "28MiB"}  # for two models each
GPU = {"DEVICES": str(DEVICES)}
EVERY = range(DEVICES)


@pytest.fixture(autouse=True)
def all_joined(gpu_server: GpuServer) -> None:
    gpu_server.joined(DEVICES)


def test_loads_are_spread_until_nothing_has_room(gpu_server: GpuServer, models: Models) -> None:
    artifacts = [models.classifier(seed) for seed in range(1, 2 * DEVICES + 4)]
    *fitting, last = artifacts
    first = fitting[:DEVICES]
    gpu_server.load(first)
    places = [gpu_server.devices_of(artifact, DEVICES) for artifact in first]
    assert sorted(places) == [[device] for device in EVERY]
    gpu_server.load(fitting[DEVICES:])
    assert gpu_server.client.load(last.name, last).status_code == 507
    for artifact in fitting:
        assert gpu_server.status(artifact.name) == 200
    assert gpu_server.capacity() == DEVICES * 28 * MIB
    assert gpu_server.reserved() == sum(map(gpu_server.reserved_on, EVERY))


def test_three_of_four_workers_are_killed(gpu_server: GpuServer, models: Models) -> None:
    """All models are served again, and the ledgers are as before."""
    artifacts = [models.classifier(seed) for seed in range(1, 2 * DEVICES + 1)]
    gpu_server.load(artifacts)
    before = [gpu_server.reserved_on(device) for device in EVERY]
    for device in (0, 1, 3):
        (worker,) = gpu_server.workers(device)
        worker.end()
    for artifact in artifacts:
        gpu_server.served(artifact.name)
    gpu_server.joined(DEVICES)
    for artifact in artifacts:
        assert gpu_server.status(artifact.name) == 200
    for device, reserved in enumerate(before):
        assert gpu_server.reserved_on(device) <= reserved
