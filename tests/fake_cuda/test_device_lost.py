"""A device that a process has lost comes back with a new process: within seconds, with all models.

Whose batch or load it was is answered with a 5xx that is not 507; the others' requests at most with 503.
"""

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.contract.waiting import until
from tests.fake_cuda.gpu import ASSERT, CONTEXT_DESTROYED, ILLEGAL_ADDRESS, MIB
from tests.fake_cuda.house import SERVED_AGAIN_S, House
from tests.fake_cuda.models import Models

SETTINGS = {"MME_DEVICE_MEMORY": "40MiB"}  # for three models


@pytest.fixture
def artifacts(house: House, models: Models) -> list[Path]:
    """Two models, loaded and served."""
    artifacts = [models.classifier(seed) for seed in (1, 2)]
    for name in house.load(artifacts):
        assert house.status(name) == 200
    return artifacts


def check(house: House, artifacts: list[Path]) -> None:
    """All are served, with the bytes of their files, and the ledger counts each once."""
    for artifact in artifacts:
        house.served(artifact.name)
    assert house.client.names() == {artifact.name for artifact in artifacts}
    assert all(house.resident(artifact) for artifact in artifacts)
    house.check_ledger(artifacts)
    assert house.client.ping().status_code == 200


@pytest.mark.parametrize("code", [ASSERT, ILLEGAL_ADDRESS, CONTEXT_DESTROYED])
def test_while_idle(house: House, artifacts: list[Path], code: int) -> None:
    """It is noticed by the next request, whoever's that is."""
    before = house.worker().pid
    house.machine.inject("call", code)
    assert house.status(artifacts[0].name) in (200, 503)
    check(house, artifacts)
    assert house.worker().pid != before


@pytest.mark.parametrize("point", ["malloc", "copy"])
def test_while_loading(house: House, models: Models, artifacts: list[Path], point: str) -> None:
    """The load is refused and leaves nothing; tried again, it succeeds."""
    third = models.classifier(3)
    house.machine.inject(point, ILLEGAL_ADDRESS, nbytes=MIB // 4)
    assert house.client.load(third.name, third).status_code in (500, 503)
    assert not house.machine.pending(point)
    check(house, artifacts)
    house.load([third])
    check(house, [*artifacts, third])


def test_while_promoting(house: House, models: Models, artifacts: list[Path]) -> None:
    """The model that was on its way comes with the next worker; the ones that were there too."""
    more = [models.classifier(seed) for seed in (3, 4, 5)]
    house.load(more)
    (absent, *_) = (each for each in artifacts if not house.resident(each))
    house.machine.inject("copy", ILLEGAL_ADDRESS, nbytes=MIB // 4)
    assert house.status(absent.name) in (200, 503)
    assert not house.machine.pending("copy")
    for artifact in [*artifacts, *more]:
        house.erase(artifact)
        house.served(artifact.name)
        assert house.resident(artifact)
    assert house.client.names() == {each.name for each in [*artifacts, *more]}
    house.check_ledger([*artifacts, *more][:3])


def test_while_computing(house: House, artifacts: list[Path]) -> None:
    """An assert in a kernel is no want of memory, and the neighbour is served again."""
    house.machine.inject("launch", ASSERT, after=3)
    response = house.client.invoke(artifacts[0].name)
    assert response.status_code in (500, 503)
    assert not house.machine.pending("launch")
    check(house, artifacts)


def test_ping_says_so_when_no_device_can_be_had(house: House, artifacts: list[Path]) -> None:
    """Each new process loses its device as well; once that ends, all is well by itself."""
    house.machine.inject("call", ASSERT, count=1000)
    assert house.status(artifacts[0].name) in (500, 503)
    until(has_status(house, 503), within_s=SERVED_AGAIN_S)
    assert house.status(artifacts[0].name) == 503
    house.machine.heal()
    until(has_status(house, 200), within_s=SERVED_AGAIN_S)
    check(house, artifacts)


def has_status(house: House, status: int) -> Callable[[], bool]:
    return lambda: house.client.ping().status_code == status
