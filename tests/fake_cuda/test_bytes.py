"""What is on the device is what the file holds, after every load and every move.

Copies on the fake device run only when somebody waits for them, and memory that a model left is overwritten
here before the next one comes: a copy that nobody waits for, or that goes elsewhere, shows as wrong bytes.
"""

import pytest

from tests.fake_cuda.house import House
from tests.fake_cuda.models import Models, contents

SETTINGS = {"MME_DEVICE_MEMORY": "40MiB"}  # for three models
COUNT = 6


@pytest.fixture
def names(house: House, models: Models) -> list[str]:
    return house.load([models.classifier(seed) for seed in range(1, COUNT + 1)])


def test_after_the_load(house: House, models: Models) -> None:
    """The first of its structure is built by transformers, later ones from what was learned of it."""
    for seed in range(1, 4):
        house.load([models.classifier(seed)])
        assert house.resident(models.classifier(seed))


def test_after_each_promotion(house: House, models: Models, names: list[str]) -> None:
    for seed in (1, 2, 3, 4, 5, 6, 1, 3, 5, 2, 4, 6):
        artifact = models.classifier(seed)
        if not house.resident(artifact):
            house.erase(artifact)
        assert house.status(artifact.name) == 200
        assert house.resident(artifact)


def test_neighbours_stay_as_they_are(house: House, models: Models, names: list[str]) -> None:
    """Promotions into memory that another model left do not reach beyond it."""
    for seed in range(1, COUNT + 1):
        assert house.status(names[seed - 1]) == 200
        whole = [each for each in range(1, COUNT + 1) if house.resident(models.classifier(each))]
        assert seed in whole
        assert len(whole) >= 3 or seed < 3


def test_nothing_but_the_weights_is_copied(house: House, models: Models, names: list[str]) -> None:
    """A promotion's bytes from host to device are those of the model, with the gaps between tensors."""
    artifact = models.classifier(1)
    for seed in range(2, COUNT + 1):
        assert house.status(names[seed - 1]) == 200
    house.erase(artifact)
    before = house.worker().counters()["h2d_nbytes"]
    assert house.status(artifact.name) == 200
    copied = house.worker().counters()["h2d_nbytes"] - before
    wanted = sum(map(len, contents(artifact).values()))
    assert wanted <= copied <= wanted + (1 << 20)
