"""Models that several tests of handlers use."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import artifacts
from tests.model_handler.pairs import Pair, pair


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("artifacts")


@pytest.fixture(scope="module")
def classifier(root: Path) -> Iterator[Pair]:
    yield from pair(root, artifacts.bert_classifier, "text-classification")


@pytest.fixture(scope="module")
def generator(root: Path) -> Iterator[Pair]:
    yield from pair(root, artifacts.gpt2, "text-generation")
