"""Shared fixtures: the fake machine, models with recognisable weights, and a server.

The test process also uses the fake runtime (`. build/fake_cuda/env.sh`, see the Makefile), with a separate
fake machine, so that tests marked `gpu` can use it directly.
"""

import os
import shutil
import tempfile
from collections.abc import Callable, Generator, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.contract.client import Client
from tests.contract.targets import answering, launch_process
from tests.fake_cuda.gpu import MIB, FakeMachine
from tests.fake_cuda.gpu_server import GpuServer
from tests.fake_cuda.models import Models

LOG_TAIL = 8000
# Small, since fake device memory is main memory
TOTAL_NBYTES = 512 * MIB
CONTEXT_NBYTES = 32 * MIB


RUNTIME = Path(os.environ.get("LD_PRELOAD", "")).parent


def pytest_configure() -> None:
    if not (RUNTIME / "libfakecuda.so").is_file():
        pytest.exit("these tests run on the fake CUDA runtime: make test-fake-cuda", 2)
    os.environ["FAKE_CUDA_DIR"] = tempfile.mkdtemp(prefix="fake-cuda-")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Order tests so that those with equal servers are consecutive: a start takes longer than most tests."""
    items.sort(key=lambda item: str(_wanted(item)) if "gpu_server" in item.fixturenames else "")  # type: ignore[attr-defined]


def _wanted(test: pytest.Item | pytest.FixtureRequest) -> tuple[dict[str, str], dict[str, str]]:
    """The SETTINGS and GPU of the test's module."""
    module = test.module  # type: ignore[union-attr]
    return getattr(module, "SETTINGS", {}), getattr(module, "GPU", {})


def pytest_unconfigure() -> None:
    shutil.rmtree(os.environ["FAKE_CUDA_DIR"], ignore_errors=True)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Add the server's log to the report of a failed test."""
    report = yield
    gpu_server = getattr(item, "funcargs", {}).get("gpu_server")
    if report.failed and gpu_server is not None:
        report.sections.append(("the server's log", gpu_server.process.logs()[-LOG_TAIL:]))
    return report


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory) -> Models:
    return Models(tmp_path_factory.mktemp("models"))


@pytest.fixture
def machine(tmp_path: Path) -> FakeMachine:
    """A machine that no process uses yet."""
    return FakeMachine(tmp_path / "gpu", RUNTIME)


@pytest.fixture(scope="session")
def launch(
    models: Models, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Callable[..., GpuServer]]:
    """`launch({"MME_…": …}, TOTAL=…)` starts a server on a new machine; it is stopped at the end."""
    with ExitStack() as stack:

        def launch(settings: dict[str, str], **gpu: str) -> GpuServer:
            scratch = tmp_path_factory.mktemp("server")
            machine = FakeMachine(scratch / "gpu", RUNTIME)
            sizes = {"TOTAL": str(TOTAL_NBYTES), "CONTEXT": str(CONTEXT_NBYTES)}
            environment = machine.environment(**sizes | gpu) | {"MME_DEVICE": "cuda"} | settings
            server = launch_process(environment, models.root, scratch)
            stack.callback(server.stop)
            answering(server)
            client = stack.enter_context(Client(server.base_url))
            return GpuServer(machine, server, client)

        yield launch


class Running:
    """The server shared by consecutive tests; replaced if a module needs other settings."""

    def __init__(self, launch: Callable[..., GpuServer]) -> None:
        self._launch = launch
        self._server: GpuServer | None = None
        self._wanted: object = None

    def get(self, settings: dict[str, str], gpu: dict[str, str]) -> GpuServer:
        if self._server is None or self._wanted != (settings, gpu):
            self.stop()
            self._server, self._wanted = self._launch(settings, **gpu), (settings, gpu)
        return self._server

    def stop(self) -> None:
        if self._server is not None:
            self._server.process.stop()
            self._server = None


@pytest.fixture(scope="session")
def running(launch: Callable[..., GpuServer]) -> Running:
    return Running(launch)


@pytest.fixture
def gpu_server(request: pytest.FixtureRequest, running: Running) -> Iterator[GpuServer]:
    """A server without models, with the module's SETTINGS (MME_…) and GPU (FAKE_CUDA_…). After the test, no
    bytes may be reserved."""
    gpu_server = running.get(*_wanted(request))
    gpu_server.machine.heal()
    gpu_server.client.clear()
    yield gpu_server
    gpu_server.machine.heal()
    gpu_server.client.clear()
    assert gpu_server.reserved() == 0
