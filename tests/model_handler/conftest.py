"""Fixtures of several files: an artifact to load, and one to damage."""

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
    """An artifact to be damaged."""
    return Path(shutil.copytree(classifier, tmp_path / "copy"))


@pytest.fixture
def no_tracebacks_kept(caplog: pytest.LogCaptureFixture) -> None:
    """pytest keeps what was logged, and with a traceback the model that was being loaded."""
    caplog.set_level(logging.CRITICAL, "model_handler.loading.loader")
