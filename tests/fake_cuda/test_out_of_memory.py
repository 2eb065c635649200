"""The device has less memory than the ledger believes: the ledger corrects itself, idle models make room.

No request is refused for ever while idle models hold the memory that it needs.
"""

from pathlib import Path

from tests.fake_cuda.gpu import MIB, OUT_OF_MEMORY
from tests.fake_cuda.house import House
from tests.fake_cuda.models import Models, nbytes

# The budget is for 21 models. The device has room for its context, workspaces and about 6
SETTINGS = {"MME_DEVICE_MEMORY": "256MiB"}
GPU = {"TOTAL": str(128 * MIB)}
COUNT = 10
FREE_NBYTES = (128 - 32) * MIB
# PyTorch tries each allocation twice: before and after it has emptied its cache
FAILS = {"code": OUT_OF_MEMORY, "count": 2, "nbytes": 4 * MIB}


def soon(house: House, name: str) -> None:
    """Served at the first or second attempt."""
    if (status := house.status(name)) != 200:
        assert status == 507
        assert house.status(name) == 200


def load_soon(house: House, artifact: Path) -> None:
    if (response := house.client.load(artifact.name, artifact)).status_code != 200:
        assert response.status_code == 507
        assert house.client.load(artifact.name, artifact).status_code == 200


def test_a_budget_larger_than_the_device(house: House, models: Models) -> None:
    """More models than there is room for are loaded and served, and the capacity becomes what is true."""
    artifacts = [models.classifier(seed) for seed in range(1, COUNT + 1)]
    for artifact in artifacts:
        load_soon(house, artifact)
    for artifact in [*artifacts, *reversed(artifacts)]:
        soon(house, artifact.name)
    assert house.client.names() == {artifact.name for artifact in artifacts}
    assert house.capacity() <= FREE_NBYTES
    assert house.reserved() <= house.capacity()
    assert house.reserved() >= 3 * nbytes(artifacts[0])


def test_at_a_load(house: House, models: Models) -> None:
    """Of a model that the allocator has no room for from former ones."""
    house.load([models.classifier(seed) for seed in (1, 2)])
    house.machine.inject("malloc", **FAILS)
    large = models.large(48 * MIB)
    load_soon(house, large)
    assert not house.machine.pending("malloc")
    for name in (large.name, models.classifier(1).name, models.classifier(2).name):
        soon(house, name)


def test_at_a_promotion(house: House, models: Models) -> None:
    artifacts = [models.classifier(seed) for seed in range(1, COUNT + 1)]
    for artifact in artifacts:
        load_soon(house, artifact)
    absent = next(artifact for artifact in artifacts if not house.resident(artifact))
    house.machine.inject("malloc", **FAILS)
    soon(house, absent.name)
    assert house.resident(absent)


def test_at_a_forward(house: House, models: Models) -> None:
    """Its activations need room where idle models are."""
    artifacts = [models.classifier(seed) for seed in (1, 2, 3)]
    for name in house.load(artifacts):
        assert house.status(name) == 200
    house.machine.inject("malloc", OUT_OF_MEMORY, count=2)
    many = {"inputs": ["the quick brown fox jumps over the lazy dog " * 5] * 2000}
    response = house.client.invoke(artifacts[0].name, many)
    assert response.status_code == 200, response.text
    assert not house.machine.pending("malloc")
    for artifact in artifacts:
        assert house.status(artifact.name) == 200


def test_no_room_for_what_is_larger_than_the_device(house: House, models: Models) -> None:
    """It is refused with 507 each time, and the others stay."""
    house.load([models.classifier(1)])
    large = models.large(200 * MIB)
    for _ in range(2):
        assert house.client.load(large.name, large).status_code == 507
        assert house.client.names() == {models.classifier(1).name}
    soon(house, models.classifier(1).name)
