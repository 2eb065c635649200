"""Several devices: models are spread, no memory is counted twice, and one device's failure is its own."""

import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.contract.waiting import until
from tests.fake_cuda.gpu import MIB
from tests.fake_cuda.gpu_server import (
    CAPACITY,
    ROUNDING_NBYTES,
    SERVED_AGAIN_S,
    GpuServer,
)
from tests.fake_cuda.models import Models, contents, nbytes

DEVICES, FIT = 2, 3  # models that fit on one device
SETTINGS = {"MME_DEVICE_MEMORY": "40MiB", "MME_HOST_MEMORY": "64MiB"}  # in main memory five more
GPU = {"DEVICES": str(DEVICES)}
EVERY = range(DEVICES)
FOREVER = 1_000_000


@pytest.fixture(autouse=True)
def all_joined(gpu_server: GpuServer) -> None:
    gpu_server.joined(DEVICES)


def classifiers(models: Models, count: int) -> list[Path]:
    return [models.classifier(seed) for seed in range(1, count + 1)]


def homes(gpu_server: GpuServer, artifacts: list[Path]) -> dict[int, list[Path]]:
    """The models by device. None may be on two."""
    found: dict[int, list[Path]] = {device: [] for device in EVERY}
    for artifact in artifacts:
        (device,) = gpu_server.devices_of(artifact, DEVICES)
        found[device].append(artifact)
    return found


def check_device(gpu_server: GpuServer, device: int, artifacts: list[Path]) -> None:
    """Assert that exactly these models are reserved on the device."""
    wanted = sum(map(nbytes, artifacts))
    rounding = ROUNDING_NBYTES * len(artifacts)
    assert wanted <= gpu_server.reserved_on(device) <= wanted + rounding


def computes(gpu_server: GpuServer, device: int) -> None:
    """Wait until the device's worker launches kernels."""
    (worker,) = gpu_server.workers(device)
    before = worker.counters()["launches"]
    until(lambda: worker.counters()["launches"] > before + 100)


def test_loads_are_spread(gpu_server: GpuServer, models: Models) -> None:
    artifacts = classifiers(models, 2 * FIT)
    gpu_server.load(artifacts)
    for device, held in homes(gpu_server, artifacts).items():
        assert len(held) == FIT
        check_device(gpu_server, device, held)
    for artifact in artifacts:
        assert gpu_server.status(artifact.name) == 200
    gauges = gpu_server.client.gauges()
    assert gauges[CAPACITY] == DEVICES * 40 * MIB
    assert gauges['mme_memory_capacity_bytes{tier="host"}'] == 64 * MIB
    assert gpu_server.reserved() == sum(map(gpu_server.reserved_on, EVERY))


def test_a_load_is_refused_when_nothing_has_room(gpu_server: GpuServer, models: Models) -> None:
    """Neither a device nor main memory."""
    *artifacts, last = classifiers(models, 2 * FIT + 6)
    gpu_server.load(artifacts)
    assert gpu_server.client.load(last.name, last).status_code == 507
    for artifact in artifacts:
        assert gpu_server.status(artifact.name) == 200
    assert gpu_server.client.unload(artifacts[0].name).status_code == 200
    gpu_server.load([last])


def test_a_hot_model_opens_on_a_second_device(gpu_server: GpuServer, models: Models) -> None:
    """Both compute, and its unload frees both."""
    (hot,) = classifiers(models, 1)
    gpu_server.load([hot])
    (home,) = gpu_server.devices_of(hot, DEVICES)
    other = gpu_server.workers(1 - home)[0]
    stop = threading.Event()

    def ask(_: int) -> set[int]:
        statuses = set()
        while not stop.is_set():
            statuses.add(gpu_server.status(hot.name))
        return statuses

    with ThreadPoolExecutor(16) as pool:
        asking = [pool.submit(ask, client) for client in range(16)]
        try:
            until(lambda: gpu_server.reserved_on(1 - home), within_s=SERVED_AGAIN_S)
            until(lambda: not other.missing(contents(hot), 1 - home))
            for device in EVERY:
                computes(gpu_server, device)
        finally:
            stop.set()
    assert set().union(*(each.result() for each in asking)) == {200}
    for device in EVERY:
        check_device(gpu_server, device, [hot])
    assert gpu_server.client.unload(hot.name).status_code == 200
    assert [gpu_server.reserved_on(device) for device in EVERY] == [0, 0]
