"""TorchScript artifacts run in one process for all graphs, separate from transformers models.

An index out of range in a graph loses the device of its process, which must not affect other models.
"""

from pathlib import Path

import pytest

from tests.fake_cuda.gpu import ASSERT
from tests.fake_cuda.gpu_server import GpuServer
from tests.fake_cuda.models import Models
from tests.model_handler.formats import builders

ROWS = [[1.0, 2.0, 3.0]]


@pytest.fixture
def graphs(models: Models) -> list[Path]:
    directories = [models.root / f"graph-{number}" for number in (1, 2)]
    for directory in directories:
        if not directory.exists():
            directory.mkdir()
            builders.torchscript(directory, builders.Linear())
    return directories


def test_one_process_for_all_graphs(
    gpu_server: GpuServer, models: Models, graphs: list[Path]
) -> None:
    gpu_server.load([models.classifier(1)])
    (shared,) = gpu_server.machine.processes()
    for name in gpu_server.load(graphs):
        assert gpu_server.client.invoke(name, ROWS).status_code == 200
    assert len(gpu_server.machine.processes()) == 2
    assert [each.pid for each in gpu_server.holders(models.classifier(1))] == [shared.pid]


def test_a_graph_loses_only_its_own_device(
    gpu_server: GpuServer, models: Models, graphs: list[Path]
) -> None:
    neighbour = models.classifier(1)
    gpu_server.load([neighbour, *graphs])
    (shared,) = gpu_server.holders(neighbour)
    (own,) = (each for each in gpu_server.machine.processes() if each.pid != shared.pid)
    gpu_server.machine.inject("call", ASSERT, pid=own.pid)
    assert gpu_server.client.invoke(graphs[0].name, ROWS).status_code in (500, 503)
    assert not gpu_server.machine.pending("call")
    assert gpu_server.status(neighbour.name) == 200
    assert [each.pid for each in gpu_server.holders(neighbour)] == [shared.pid]
    for graph in graphs:
        gpu_server.served(graph.name, ROWS)


def test_nothing_stays(gpu_server: GpuServer, graphs: list[Path]) -> None:
    """The process ends with its last graph."""
    gpu_server.load(graphs)
    gpu_server.client.clear()
    assert gpu_server.reserved() == 0
    assert [each.pid for each in gpu_server.machine.processes()] == [gpu_server.worker().pid]
