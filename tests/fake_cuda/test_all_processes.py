"""Models in processes of their own, and models that compute on the CPU, on a machine with two devices."""

from pathlib import Path

import pytest

from tests.contract.waiting import until
from tests.fake_cuda.conftest import CONTEXT_NBYTES
from tests.fake_cuda.gpu import ASSERT, MIB, FakeProcess
from tests.fake_cuda.gpu_server import SERVED_AGAIN_S, GpuServer
from tests.fake_cuda.models import Models
from tests.fake_cuda.test_custom_code import CODE, HELD
from tests.fake_cuda.test_graphs import graphs as graphs
from tests.model_handler.formats import builders

DEVICES = 2
GPU = {"DEVICES": str(DEVICES)}
HOST = 'mme_memory_reserved_bytes{tier="host"}'
ROWS = [[1.0, 2.0, 3.0]]
SIZE = {"mebibytes": 1}
FOREVER = 1_000_000


@pytest.fixture(autouse=True)
def all_joined(gpu_server: GpuServer) -> None:
    gpu_server.joined(DEVICES)


@pytest.fixture
def custom(models: Models) -> list[Path]:
    """Code that asks for the device "cuda"."""
    directories = [models.root / f"custom-{number}" for number in (1, 2)]
    for directory in directories:
        if not directory.exists():
            (directory / "code").mkdir(parents=True)
            (directory / "code/inference.py").write_text(CODE)
    return directories


def processes(gpu_server: GpuServer, name: str, device: int) -> list[FakeProcess]:
    """Those with this name that use the device."""
    found = (each for each in gpu_server.machine.processes() if each.name == name)
    return [each for each in found if each.counters()[f"used.{device}"]]


def test_graphs(gpu_server: GpuServer, graphs: list[Path]) -> None:
    """One process on each device, which uses no other and ends with its last graph."""
    for name in gpu_server.load(graphs):
        assert gpu_server.status(name, ROWS) == 200
    for device in range(DEVICES):
        pids = {each.pid for each in gpu_server.workers(device)}
        assert len(pids) == 2
        assert pids.isdisjoint(each.pid for each in gpu_server.workers(1 - device))
        assert gpu_server.reserved_on(device) >= CONTEXT_NBYTES
    gpu_server.client.clear()
    assert [gpu_server.reserved_on(device) for device in range(DEVICES)] == [0, 0]
    until(lambda: len(gpu_server.machine.processes()) == DEVICES)


def test_custom_code(gpu_server: GpuServer, custom: list[Path]) -> None:
    """Code that asks for "cuda" gets the device on which its memory is reserved."""
    for name in gpu_server.load(custom):
        assert gpu_server.status(name, SIZE) == 200
    for device in range(DEVICES):
        (process,) = processes(gpu_server, "mme-isolated", device)
        used = process.counters()[f"used.{device}"]
        assert used >= CONTEXT_NBYTES + HELD * MIB
        assert gpu_server.reserved_on(device) == pytest.approx(used, abs=4 * MIB)


def test_models_on_the_cpu(gpu_server: GpuServer, models: Models) -> None:
    """They take no device memory, and main memory once."""
    directory = models.root / "onnx"
    if not directory.exists():
        directory.mkdir()
        builders.onnx_graph(directory)
    before = gpu_server.client.gauges()[HOST]
    names = [f"onnx-{number}" for number in range(3)]
    for name in names:
        assert gpu_server.client.load(name, directory).status_code == 200
        assert gpu_server.status(name, ROWS) == 200
    assert gpu_server.reserved() == 0
    one = (gpu_server.client.gauges()[HOST] - before) / len(names)
    assert (directory / "model.onnx").stat().st_size / 2 <= one <= 64 * MIB
    gpu_server.client.clear()
    assert gpu_server.client.gauges()[HOST] == before


def test_processes_on_a_lost_device(
    gpu_server: GpuServer, models: Models, graphs: list[Path], custom: list[Path]
) -> None:
    """Their models are given up, so that the platform loads them again: on the other device. A model that
    computes on the CPU goes on in the other device's worker."""
    bodies = {each.name: ROWS for each in graphs} | {each.name: SIZE for each in custom}
    gpu_server.load([*graphs, *custom])
    gpu_server.machine.inject("call", ASSERT, count=FOREVER, device=1)
    for worker in gpu_server.workers(1):
        worker.end()

    def given_up() -> bool:
        statuses = [gpu_server.status(name, body) for name, body in bodies.items()]
        assert set(statuses) <= {200, 404, 500, 503}
        return set(statuses) <= {200, 404}

    until(given_up, within_s=SERVED_AGAIN_S)
    for artifact in [*graphs, *custom]:
        if artifact.name not in gpu_server.client.names():
            gpu_server.load([artifact])
        assert gpu_server.status(artifact.name, bodies[artifact.name]) == 200
    assert gpu_server.reserved_on(1) == 0
    assert gpu_server.client.ping().status_code == 200
