"""Commands take effect in their order, and no model is demoted under a batch."""

import pytest

from model_handler.handlers import Handler
from model_handler.worker.loaded_models import Kept, LoadedModel, LoadedModels
from tests import artifacts
from tests.model_handler.harness import loaded

ID = 7


@pytest.fixture(scope="module")
def handler(tmp_path_factory: pytest.TempPathFactory) -> Handler:
    with loaded(artifacts.bert_classifier(tmp_path_factory.mktemp("model"))) as handler:
        return handler


class Demotions:
    """Those that may begin, each of which `end` ends."""

    def __init__(self) -> None:
        self.begun: list[tuple[LoadedModel, Kept]] = []

    def begin(self, resident: LoadedModel, kept: Kept) -> None:
        self.begun.append((resident, kept))

    def end(self, *, stays: bool = True) -> None:
        resident, kept = self.begun.pop()
        kept.set_result(resident if stays else None)


@pytest.fixture
def resident(handler: Handler) -> LoadedModel:
    return LoadedModel(ID, handler, generates=False)


@pytest.fixture
def residents(resident: LoadedModel) -> LoadedModels:
    """With one model on the device."""
    residents = LoadedModels()
    assert residents.expect(ID).result(0) is None
    assert residents.arrived(ID, resident, None)
    return residents


def test_a_demotion_waits_for_batches(residents: LoadedModels, resident: LoadedModel) -> None:
    demotions = Demotions()
    assert residents.use(ID) is resident
    assert residents.use(ID) is resident
    assert residents.demote(ID, demotions.begin)
    assert residents.use(ID) is None
    residents.release(resident)
    assert not demotions.begun
    residents.release(resident)
    demotions.end()
    assert residents.expect(ID).result(0) is resident


def test_a_demotion_that_waited_does_not_come_again(
    residents: LoadedModels, resident: LoadedModel
) -> None:
    demotions = Demotions()
    residents.use(ID)
    residents.demote(ID, demotions.begin)
    residents.release(resident)
    demotions.end()
    residents.expect(ID)
    assert residents.arrived(ID, resident, None)
    residents.use(ID)
    residents.release(resident)
    assert not demotions.begun


@pytest.mark.parametrize("stays", [True, False])
def test_a_load_waits_for_the_demotion_before_it(
    stays: bool, residents: LoadedModels, resident: LoadedModel
) -> None:
    demotions = Demotions()
    residents.demote(ID, demotions.begin)
    kept = residents.expect(ID)
    assert not kept.done()
    demotions.end(stays=stays)
    assert kept.result(0) is (resident if stays else None)


def test_so_does_an_unload(residents: LoadedModels, resident: LoadedModel) -> None:
    demotions = Demotions()
    residents.demote(ID, demotions.begin)
    found = residents.remove(ID)
    assert found is not None
    assert not found.done()
    demotions.end()
    assert found.result(0) is resident
    again = residents.remove(ID)
    assert again is not None
    assert again.result(0) is None


def test_an_unload_takes_the_model_from_its_batches(
    residents: LoadedModels, resident: LoadedModel
) -> None:
    residents.use(ID)
    found = residents.remove(ID)
    assert found is not None
    assert found.result(0) is resident
    assert resident.unloaded
    assert residents.use(ID) is None


@pytest.mark.parametrize("by", ["remove", "demote"])
def test_a_load_that_was_withdrawn_does_not_arrive(
    by: str, residents: LoadedModels, resident: LoadedModel
) -> None:
    demotions = Demotions()
    residents.demote(ID, demotions.begin)
    residents.expect(ID)
    if by == "remove":
        assert residents.remove(ID) is None
    else:
        assert residents.demote(ID, demotions.begin)
    assert not residents.arrived(ID, resident, None)
    assert residents.use(ID) is None
    assert not residents.demote(ID, demotions.begin)


def test_what_a_failed_promotion_leaves(residents: LoadedModels, resident: LoadedModel) -> None:
    demotions = Demotions()
    residents.demote(ID, demotions.begin)
    demotions.end()
    assert residents.expect(ID).result(0) is resident
    assert residents.arrived(ID, None, resident)
    assert residents.use(ID) is None
    assert residents.expect(ID).result(0) is resident
