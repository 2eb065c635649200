"""Shared fixtures: an artifact to load, and a copy of it to change."""

import logging
import shutil
from pathlib import Path

import pytest

from tests import artifacts


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
