"""A thousand random moves on several devices: bytes, contents and ledgers agree afterwards."""

import random
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.contract.waiting import until
from tests.fake_cuda.gpu import MIB
from tests.fake_cuda.gpu_server import ROUNDING_NBYTES, WORKSPACES_NBYTES, GpuServer
from tests.fake_cuda.models import Models, nbytes
from tests.fake_cuda.test_graphs import graphs as graphs

DEVICES = 2
FIT, COUNT, ROUNDS, MOVES, CLIENTS = 6, 16, 20, 50, 8
BUDGET = 80 * MIB  # of each device: for FIT models, or fewer beside a process for graphs
SETTINGS = {"MME_DEVICE_MEMORY": str(BUDGET), "MME_HOST_MEMORY": "256MiB"}
GPU = {"DEVICES": str(DEVICES)}
ROWS = [[1.0, 2.0, 3.0]]


@pytest.fixture(autouse=True)
def all_joined(gpu_server: GpuServer) -> None:
    gpu_server.joined(DEVICES)


def test_random_moves(gpu_server: GpuServer, models: Models, graphs: list[Path]) -> None:
    """Loads, unloads, and requests for models of which a quarter is demoted. None is refused."""
    artifacts = [models.classifier(seed) for seed in range(1, COUNT + 1)]
    dice, loaded = random.Random(20261128), set[Path]()
    with ThreadPoolExecutor(CLIENTS) as pool:
        for _ in range(ROUNDS):
            steady = step(gpu_server, dice, loaded, artifacts)
            asked = dice.choices(steady, k=MOVES - 2) if steady else []
            statuses = set(pool.map(lambda artifact: gpu_server.status(artifact.name), asked))
            assert statuses <= {200}
            assert all(gpu_server.reserved_on(device) <= BUDGET for device in range(DEVICES))
    assert gpu_server.client.names() == {artifact.name for artifact in loaded}
    release_unused(gpu_server, graphs[0], loaded)
    check(gpu_server, sorted(loaded))


def step(
    gpu_server: GpuServer, dice: random.Random, loaded: set[Path], artifacts: list[Path]
) -> list[Path]:
    """Load or unload two models. Returns the loaded ones that did not change."""
    before = set(loaded)
    for artifact in dice.sample(artifacts, 2):
        if artifact in loaded and len(loaded) > COUNT // 2:
            assert gpu_server.client.unload(artifact.name).status_code == 200
            loaded.remove(artifact)
        elif artifact not in loaded:
            gpu_server.load([artifact])
            loaded.add(artifact)
    return sorted(before & loaded)


def release_unused(gpu_server: GpuServer, graph: Path, loaded: set[Path]) -> None:
    """Start a process for graphs on each device in turn: its main worker then gives back what it does not
    use. A graph is loaded on the device with the most free memory: models of the others are unloaded until
    each was that device."""
    left = set(range(DEVICES))
    while left:
        gpu_server.load([graph])
        assert gpu_server.status(graph.name, ROWS) == 200
        (found,) = (device for device in range(DEVICES) if len(gpu_server.workers(device)) == 2)
        assert gpu_server.client.unload(graph.name).status_code == 200
        until(lambda: len(gpu_server.machine.processes()) == DEVICES)
        left.discard(found)
        if left:
            unload_one(gpu_server, loaded, min(left))


def unload_one(gpu_server: GpuServer, loaded: set[Path], device: int) -> None:
    """Unload a model of this device."""
    artifact = next(one for one in sorted(loaded) if device in gpu_server.devices_of(one, DEVICES))
    assert gpu_server.client.unload(artifact.name).status_code == 200
    loaded.remove(artifact)


def check(gpu_server: GpuServer, loaded: list[Path]) -> None:
    """Assert that each device's ledger has exactly the models whose bytes are on it, and nothing else is
    allocated; then that every model is served with the bytes of its file."""
    places = {artifact: gpu_server.devices_of(artifact, DEVICES) for artifact in loaded}
    for device in range(DEVICES):
        there = [nbytes(artifact) for artifact, devices in places.items() if device in devices]
        reserved = gpu_server.reserved_on(device)
        assert sum(there) <= reserved <= sum(there) + ROUNDING_NBYTES * len(there)
        (worker,) = gpu_server.workers(device)
        assert reserved <= worker.held_nbytes(device) <= reserved + WORKSPACES_NBYTES
    for artifact in loaded:
        if not gpu_server.devices_of(artifact, DEVICES):
            gpu_server.erase(artifact)
        assert gpu_server.status(artifact.name) == 200
        assert gpu_server.devices_of(artifact, DEVICES)
