"""Tiny real models of each format, trained or written in the fixture."""

from pathlib import Path

import pytest

from tests.model_handler.formats import builders


@pytest.fixture(scope="session")
def booster(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return builders.booster(tmp_path_factory.mktemp("booster"))


@pytest.fixture(scope="session")
def named_booster(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return builders.named_booster(tmp_path_factory.mktemp("named"))


@pytest.fixture(scope="session")
def neighbours(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return builders.neighbours(tmp_path_factory.mktemp("neighbours"))


@pytest.fixture(scope="session")
def onnx_graph(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return builders.onnx_graph(tmp_path_factory.mktemp("onnx"))


@pytest.fixture(scope="session")
def torchscript(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return builders.torchscript(tmp_path_factory.mktemp("torchscript"), builders.Linear())


@pytest.fixture(scope="session")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return builders.exported(tmp_path_factory.mktemp("exported"))
