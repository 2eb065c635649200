"""Shared fixtures: an artifact to load, and a copy of it to change."""

import gc
import logging
import math
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from model_handler.budgets import deadlines
from tests import artifacts


@pytest.fixture(scope="module", autouse=True)
def _earlier_objects_are_not_collected() -> Iterator[None]:
    """Loads and unloads collect garbage, which takes 0.3 s if everything imported is searched each time."""
    gc.freeze()
    yield
    gc.unfreeze()


@pytest.fixture(autouse=True)
def _no_deadline_is_left() -> Iterator[None]:
    """The deadline of a batch that the test's own thread computes stays until the thread's next batch; of one
    in a fixture too."""
    deadlines.current.until = math.inf
    yield
    deadlines.current.until = math.inf


@pytest.fixture(scope="module")
def classifier(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return artifacts.bert_classifier(tmp_path_factory.mktemp("artifacts") / "classifier")


@pytest.fixture
def copy(classifier: Path, tmp_path: Path) -> Path:
    """A copy of the artifact that the test may change."""
    return Path(shutil.copytree(classifier, tmp_path / "copy"))


@pytest.fixture
def no_tracebacks_kept(caplog: pytest.LogCaptureFixture) -> None:
    """Do not log: pytest keeps log records, and a record's traceback keeps the model being loaded."""
    caplog.set_level(logging.CRITICAL, "model_handler.loading.failures")
