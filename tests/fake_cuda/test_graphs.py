"""TorchScript from artifacts runs apart from the transformers' models, in one process for all graphs.

An index out of range in a graph ends its process's device, and must not be the others' loss.
"""

from pathlib import Path

import pytest

from tests.fake_cuda.gpu import ASSERT
from tests.fake_cuda.house import House
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


def test_one_process_for_all_graphs(house: House, models: Models, graphs: list[Path]) -> None:
    house.load([models.classifier(1)])
    (shared,) = house.machine.processes()
    for name in house.load(graphs):
        assert house.client.invoke(name, ROWS).status_code == 200
    assert len(house.machine.processes()) == 2
    assert [each.pid for each in house.holders(models.classifier(1))] == [shared.pid]


def test_a_graph_loses_only_its_own_device(
    house: House, models: Models, graphs: list[Path]
) -> None:
    neighbour = models.classifier(1)
    house.load([neighbour, *graphs])
    (shared,) = house.holders(neighbour)
    (own,) = (each for each in house.machine.processes() if each.pid != shared.pid)
    house.machine.inject("call", ASSERT, pid=own.pid)
    assert house.client.invoke(graphs[0].name, ROWS).status_code in (500, 503)
    assert not house.machine.pending("call")
    assert house.status(neighbour.name) == 200
    assert [each.pid for each in house.holders(neighbour)] == [shared.pid]
    for graph in graphs:
        house.served(graph.name, ROWS)


def test_nothing_stays(house: House, graphs: list[Path]) -> None:
    """The process ends with its last graph."""
    house.load(graphs)
    house.client.clear()
    assert house.reserved() == 0
    assert [each.pid for each in house.machine.processes()] == [house.worker().pid]
