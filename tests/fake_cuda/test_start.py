"""The server starts on a GPU, serves every verb, and holds nothing of a model that was unloaded."""

from tests.contract.targets import log_lines
from tests.fake_cuda.conftest import CONTEXT_NBYTES
from tests.fake_cuda.gpu import MIB
from tests.fake_cuda.house import WORKSPACES_NBYTES, House
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
    (line,) = log_lines(house.server, '"event":"device"')
    assert "Fake GPU 0" in line
    assert '"compute_capability":"8.6"' in line
    assert '"driver_supports_cuda":"13.0"' in line


def test_nothing_stays_of_what_was_unloaded(house: House, models: Models) -> None:
    """But for the context, workspaces and the pinned buffers of the uploads."""
    artifacts = [models.classifier(seed) for seed in range(1, 4)]
    for _ in range(3):
        for name in house.load(artifacts):
            assert house.status(name) == 200
        assert house.worker().held_nbytes() >= sum(map(nbytes, artifacts))
        house.client.clear()
        assert house.reserved() == 0
        counters = house.worker().counters()
        assert counters["context.0"] == CONTEXT_NBYTES
        assert house.worker().held_nbytes() <= WORKSPACES_NBYTES
        assert counters["pinned"] <= 256 * MIB
