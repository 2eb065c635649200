"""The server starts on a GPU, serves every verb, and holds nothing of a model that was unloaded."""

from tests.contract.targets import log_lines
from tests.fake_cuda.conftest import CONTEXT_NBYTES, TOTAL_NBYTES
from tests.fake_cuda.gpu import MIB
from tests.fake_cuda.house import House
from tests.fake_cuda.models import Models, nbytes


def test_every_verb(house: House, models: Models) -> None:
    path = models.classifier(1)
    assert house.client.load("A", path).status_code == 200
    assert house.client.names() == {"A"}
    assert house.client.describe("A").json()["modelUrl"] == str(path)
    assert house.client.invoke("A").status_code == 200
    assert house.client.ping().status_code == 200
    assert house.client.unload("A").status_code == 200
    assert house.client.invoke("A").status_code == 404


def test_the_log_names_the_device(house: House) -> None:
    house.worker()
    line = log_lines(house.server, '"event":"device"')[0]
    assert "Fake GPU 0" in line
    assert '"compute_capability":"8.6"' in line
    assert '"driver_supports_cuda":"13.0"' in line


def test_nothing_stays_of_what_was_unloaded(house: House, models: Models) -> None:
    """The allocator keeps memory for the next model, of whatever size it is: one that needs nearly the whole
    budget fits afterwards, although budget and former models together are more than the device."""
    artifacts = [models.classifier(seed) for seed in range(1, 11)]
    for _ in range(2):
        for name in house.load(artifacts):
            assert house.status(name) == 200
        assert house.worker().held_nbytes() >= sum(map(nbytes, artifacts))
        house.client.clear()
        assert house.reserved() == 0
    assert sum(map(nbytes, artifacts)) + house.capacity() > TOTAL_NBYTES - CONTEXT_NBYTES
    house.load([models.large(house.capacity() - 4 * MIB)])


def test_the_rest_is_a_context_and_pinned_buffers(house: House, models: Models) -> None:
    house.load([models.classifier(1)])
    counters = house.worker().counters()
    assert counters["context.0"] == CONTEXT_NBYTES
    assert counters["pinned"] <= 192 * MIB
    assert counters["registered"] == 0
