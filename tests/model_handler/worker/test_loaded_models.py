"""Commands take effect in order, and no model is demoted during a batch."""

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
    """Records demotions that have begun; `end` ends the latest."""

    def __init__(self) -> None:
        self.begun: list[tuple[LoadedModel, Kept]] = []

    def begin(self, model: LoadedModel, kept: Kept) -> None:
        self.begun.append((model, kept))

    def end(self, *, stays: bool = True) -> None:
        model, kept = self.begun.pop()
        kept.set_result(model if stays else None)


@pytest.fixture
def model(handler: Handler) -> LoadedModel:
    return LoadedModel(ID, handler, generates=False)


@pytest.fixture
def models(model: LoadedModel) -> LoadedModels:
    """A table with one model on the device."""
    models = LoadedModels()
    assert models.expect(ID).result(0) is None
    assert models.arrived(ID, model, None)
    return models


def test_a_demotion_waits_for_batches(models: LoadedModels, model: LoadedModel) -> None:
    demotions = Demotions()
    assert models.use(ID) is model
    assert models.use(ID) is model
    assert models.demote(ID, demotions.begin)
    assert models.use(ID) is None
    models.release(model)
    assert not demotions.begun
    models.release(model)
    demotions.end()
    assert models.expect(ID).result(0) is model


def test_a_demotion_that_waited_begins_only_once(models: LoadedModels, model: LoadedModel) -> None:
    demotions = Demotions()
    models.use(ID)
    models.demote(ID, demotions.begin)
    models.release(model)
    demotions.end()
    models.expect(ID)
    assert models.arrived(ID, model, None)
    models.use(ID)
    models.release(model)
    assert not demotions.begun


@pytest.mark.parametrize("stays", [True, False])
def test_a_load_waits_for_the_demotion_before_it(
    stays: bool, models: LoadedModels, model: LoadedModel
) -> None:
    demotions = Demotions()
    models.demote(ID, demotions.begin)
    kept = models.expect(ID)
    assert not kept.done()
    demotions.end(stays=stays)
    assert kept.result(0) is (model if stays else None)


def test_an_unload_waits_for_the_demotion_before_it(
    models: LoadedModels, model: LoadedModel
) -> None:
    demotions = Demotions()
    models.demote(ID, demotions.begin)
    found = models.remove(ID)
    assert found is not None
    assert not found.done()
    demotions.end()
    assert found.result(0) is model
    again = models.remove(ID)
    assert again is not None
    assert again.result(0) is None


def test_an_unload_takes_the_model_from_its_batches(
    models: LoadedModels, model: LoadedModel
) -> None:
    models.use(ID)
    found = models.remove(ID)
    assert found is not None
    assert found.result(0) is model
    assert model.unloaded
    assert models.use(ID) is None


@pytest.mark.parametrize("by", ["remove", "demote"])
def test_a_load_that_was_withdrawn_does_not_arrive(
    by: str, models: LoadedModels, model: LoadedModel
) -> None:
    demotions = Demotions()
    models.demote(ID, demotions.begin)
    models.expect(ID)
    if by == "remove":
        assert models.remove(ID) is None
    else:
        assert models.demote(ID, demotions.begin)
    assert not models.arrived(ID, model, None)
    assert models.use(ID) is None
    assert not models.demote(ID, demotions.begin)


def test_after_a_failed_promotion_the_model_stays_demoted(
    models: LoadedModels, model: LoadedModel
) -> None:
    demotions = Demotions()
    models.demote(ID, demotions.begin)
    demotions.end()
    assert models.expect(ID).result(0) is model
    assert models.arrived(ID, None, model)
    assert models.use(ID) is None
    assert models.expect(ID).result(0) is model
