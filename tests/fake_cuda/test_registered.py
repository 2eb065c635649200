"""Model files whose cached pages the driver has registered are copied from there, with the same result."""

import shutil
from pathlib import Path

import pytest

from tests.fake_cuda.gpu import MIB, OUT_OF_MEMORY
from tests.fake_cuda.house import House
from tests.fake_cuda.models import Models, nbytes

# For three models on the device, and for four files
SETTINGS = {"MME_DEVICE_MEMORY": "40MiB", "MME_REGISTERED_MEMORY": "50MiB"}
COUNT = 6


@pytest.fixture
def artifacts(models: Models) -> list[Path]:
    return [models.classifier(seed) for seed in range(1, COUNT + 1)]


def promoted(house: House, artifacts: list[Path]) -> None:
    """All of them in turn, each checked against its file."""
    for artifact in artifacts:
        if not house.resident(artifact):
            house.erase(artifact)
        assert house.status(artifact.name) == 200
        assert house.resident(artifact)


def test_the_bytes_are_the_same(house: House, artifacts: list[Path]) -> None:
    house.load(artifacts)
    for _ in range(2):
        promoted(house, artifacts)
    assert house.worker().counters()["registrations"] >= 4


def test_no_more_is_registered_than_allowed(house: House, artifacts: list[Path]) -> None:
    house.load(artifacts)
    promoted(house, artifacts)
    registered = house.worker().counters()["registered"]
    assert 3 * nbytes(artifacts[0]) <= registered <= 50 * MIB
    house.client.clear()
    assert house.worker().counters()["registered"] == 0


def test_a_file_that_was_replaced_is_read_again(
    house: House, models: Models, artifacts: list[Path]
) -> None:
    """By name and by content: a model with the weights of another."""
    copy = models.root / "replaced"
    shutil.copytree(artifacts[0], copy)
    house.load([copy])
    assert house.client.unload(copy.name).status_code == 200
    shutil.copy(artifacts[1] / "model.safetensors", copy / "new")
    (copy / "new").rename(copy / "model.safetensors")
    house.erase(artifacts[1])
    house.load([copy])
    assert house.resident(artifacts[1])


@pytest.mark.parametrize("count", [1, 2])
def test_where_the_driver_refuses(house: House, artifacts: list[Path], count: int) -> None:
    """Models come by the ordinary way then. Nothing of the error is left for a later launch to find."""
    house.replace_worker()
    house.machine.inject("register", OUT_OF_MEMORY, count=count)
    house.load(artifacts)
    promoted(house, artifacts)
    assert not house.machine.pending("register")
