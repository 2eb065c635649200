"""One fork server for all tests of this folder, and one isolated process per test."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from model_handler.artifacts.conventions import Convention
from tests.model_handler.scripted.process import ForkServer, Model, Process, write


@pytest.fixture(scope="session")
def fork_server() -> Iterator[ForkServer]:
    fork_server = ForkServer()
    yield fork_server
    fork_server.close()


@pytest.fixture
def process(fork_server: ForkServer) -> Iterator[Process]:
    with fork_server.process() as process:
        yield process


@pytest.fixture
def start(fork_server: ForkServer) -> Iterator[Callable[..., Process]]:
    """Start further processes, or processes with other fork options."""
    with ExitStack() as stack:
        yield lambda **order: stack.enter_context(fork_server.process(**order))


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
    """Write and load an artifact with this handler.py."""

    def deploy(code: str, **fields: Any) -> Model:
        root = write(tmp_path / "model", code, Convention.ENDPOINT_HANDLER)
        return process.load(root, **fields)

    return deploy
