"""Fixtures of this tier: the fake machine, models with weights that can be recognised, and a server.

The tests' own process runs on the fake runtime too (`. build/fake_cuda/env.sh`, see the Makefile), with a
machine of its own, so that tests marked `gpu` can use it directly.
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
from tests.fake_cuda.house import House
from tests.fake_cuda.models import Models

LOG_TAIL = 8000
# Small, so that the memory of the machine under the fake one is enough
TOTAL_NBYTES = 512 * MIB
CONTEXT_NBYTES = 32 * MIB


RUNTIME = Path(os.environ.get("LD_PRELOAD", "")).parent


def pytest_configure() -> None:
    if not (RUNTIME / "libfakecuda.so").is_file():
        pytest.exit("these tests run on the fake CUDA runtime: make test-fake-cuda", 2)
    os.environ["FAKE_CUDA_DIR"] = tempfile.mkdtemp(prefix="fake-cuda-")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Those that share a server follow one another: a start takes longer than most tests."""
    items.sort(key=lambda item: str(_wanted(item)) if "house" in item.fixturenames else "")  # type: ignore[attr-defined]


def _wanted(test: pytest.Item | pytest.FixtureRequest) -> tuple[dict[str, str], dict[str, str]]:
    """What the test's module says of the server and of its GPU."""
    module = test.module  # type: ignore[union-attr]
    return getattr(module, "SETTINGS", {}), getattr(module, "GPU", {})


def pytest_unconfigure() -> None:
    shutil.rmtree(os.environ["FAKE_CUDA_DIR"], ignore_errors=True)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """The server's log beside a failure."""
    report = yield
    house = getattr(item, "funcargs", {}).get("house")
    if report.failed and house is not None:
        report.sections.append(("the server's log", house.server.logs()[-LOG_TAIL:]))
    return report


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory) -> Models:
    return Models(tmp_path_factory.mktemp("models"))


@pytest.fixture
def machine(tmp_path: Path) -> FakeMachine:
    """One that no process uses yet."""
    return FakeMachine(tmp_path / "gpu", RUNTIME)


@pytest.fixture(scope="session")
def launch(
    models: Models, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Callable[..., House]]:
    """`launch({"MME_…": …}, TOTAL=…)`: a server on a machine of its own, stopped at the end."""
    with ExitStack() as stack:

        def launch(settings: dict[str, str], **gpu: str) -> House:
            scratch = tmp_path_factory.mktemp("server")
            machine = FakeMachine(scratch / "gpu", RUNTIME)
            sizes = {"TOTAL": str(TOTAL_NBYTES), "CONTEXT": str(CONTEXT_NBYTES)}
            environment = machine.environment(**sizes | gpu) | {"MME_DEVICE": "cuda"} | settings
            server = launch_process(environment, models.root, scratch)
            stack.callback(server.stop)
            answering(server)
            client = stack.enter_context(Client(server.base_url))
            return House(machine, server, client)

        yield launch


class Running:
    """The one server that several tests share; replaced where a module wants another."""

    def __init__(self, launch: Callable[..., House]) -> None:
        self._launch = launch
        self._house: House | None = None
        self._wanted: object = None

    def get(self, settings: dict[str, str], gpu: dict[str, str]) -> House:
        if self._house is None or self._wanted != (settings, gpu):
            self.stop()
            self._house, self._wanted = self._launch(settings, **gpu), (settings, gpu)
        return self._house

    def stop(self) -> None:
        if self._house is not None:
            self._house.server.stop()
            self._house = None


@pytest.fixture(scope="session")
def running(launch: Callable[..., House]) -> Running:
    return Running(launch)


@pytest.fixture
def house(request: pytest.FixtureRequest, running: Running) -> Iterator[House]:
    """A server without models, by the module's SETTINGS (MME_…) and GPU (FAKE_CUDA_…). Afterwards nothing
    may be left in its ledger."""
    house = running.get(*_wanted(request))
    house.machine.heal()
    house.client.clear()
    yield house
    house.machine.heal()
    house.client.clear()
    assert house.reserved() == 0
