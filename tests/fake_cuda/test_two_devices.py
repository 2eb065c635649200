"""A worker for one device of several takes nothing of the others."""

from tests.fake_cuda.conftest import CONTEXT_NBYTES
from tests.fake_cuda.house import House
from tests.fake_cuda.models import Models, contents

SETTINGS = {"MME_DEVICE": "cuda:1"}
GPU = {"DEVICES": "2"}


def test_the_second_device(house: House, models: Models) -> None:
    artifacts = [models.classifier(seed) for seed in (1, 2)]
    for name in house.load(artifacts):
        assert house.status(name) == 200
    worker = house.worker()
    for artifact in artifacts:
        assert not worker.missing(contents(artifact), device=1)
    assert house.machine.used_nbytes(device=0) == 0
    assert house.machine.used_nbytes(device=1) > CONTEXT_NBYTES


def test_its_successor_too(house: House, models: Models) -> None:
    """A process that died leaves nothing on its device, and the next is for the same one."""
    house.load([models.classifier(1)])
    house.worker().end()
    house.served(models.classifier(1).name)
    assert house.machine.used_nbytes(device=0) == 0
    counters = house.worker().counters()
    assert house.machine.used_nbytes(device=1) == counters["used.1"]


def test_the_budget_is_that_of_the_device(house: House, models: Models) -> None:
    """85 % of what is free on it, whatever the first device holds."""
    house.load([models.classifier(1)])
    total = 512 << 20
    assert house.capacity() <= 0.85 * (total - CONTEXT_NBYTES)
    assert house.capacity() >= 0.75 * (total - CONTEXT_NBYTES)
