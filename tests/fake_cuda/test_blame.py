"""A model whose batches lose the device again and again loses it for itself alone."""

from tests.fake_cuda.gpu import ASSERT
from tests.fake_cuda.house import House
from tests.fake_cuda.models import Models


def test_a_model_that_loses_the_device_twice_gets_a_process_of_its_own(
    house: House, models: Models
) -> None:
    """The next time it loses its own device, and the others are served all the while."""
    culprit, neighbour = models.classifier(1), models.classifier(2)
    house.load([culprit, neighbour])
    for _ in range(2):
        house.machine.inject("launch", ASSERT)
        assert house.status(culprit.name) in (500, 503)
        house.served(culprit.name)
        house.served(neighbour.name)
    (own,) = house.holders(culprit)
    (shared,) = house.holders(neighbour)
    assert own.pid != shared.pid
    house.machine.inject("launch", ASSERT, pid=own.pid)
    assert house.status(culprit.name) in (500, 503)
    assert house.status(neighbour.name) == 200
    house.served(culprit.name)
    assert [each.pid for each in house.holders(neighbour)] == [shared.pid]
