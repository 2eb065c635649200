"""A fork server for all of these tests, and a process for each."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from model_handler.artifacts.conventions import Convention
from tests.model_handler.scripted.process import Forks, Model, Process, write


@pytest.fixture(scope="session")
def forks() -> Iterator[Forks]:
    forks = Forks()
    yield forks
    forks.close()


@pytest.fixture
def process(forks: Forks) -> Iterator[Process]:
    with forks.process() as process:
        yield process


@pytest.fixture
def start(forks: Forks) -> Iterator[Callable[..., Process]]:
    """Further processes, or ones with an order of their own."""
    with ExitStack() as stack:
        yield lambda **order: stack.enter_context(forks.process(**order))


@pytest.fixture
def deploy(process: Process, tmp_path: Path) -> Callable[..., Model]:
    """Write and load an artifact with this code."""

    def deploy(code: str, *, files: dict[str, str] | None = None, **fields: Any) -> Model:
        return process.load(
            write(tmp_path / "model", code, Convention.INFERENCE, **(files or {})), **fields
        )

    return deploy


@pytest.fixture
def deploy_handler(process: Process, tmp_path: Path) -> Callable[..., Model]:
    """The same for a handler.py."""

    def deploy(code: str, **fields: Any) -> Model:
        root = write(tmp_path / "model", code, Convention.ENDPOINT_HANDLER)
        return process.load(root, **fields)

    return deploy
