"""Fixtures of the conformance suite: artifacts, the server under test without models, and a client."""

from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import ExitStack

import pytest

from tests.contract.artifacts import Zoo
from tests.contract.client import Client
from tests.contract.code_artifacts import CodeZoo
from tests.contract.image import launch_image
from tests.contract.report import DIFFERS
from tests.contract.targets import RESERVED, TARGETS, Target, answering

Environment = Mapping[str, str | None]
ZOOS = {"huggingface": Zoo, "code": CodeZoo}
LOG_TAIL = 8000


def _target_name(config: pytest.Config) -> str:
    return str(config.getoption("--target", "process"))


def pytest_runtest_setup(item: pytest.Item) -> None:
    for mark in item.iter_markers("differs"):
        if mark.args[0] == _target_name(item.config):
            pytest.skip(DIFFERS + mark.kwargs["reason"])


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Add the server's log to the report of a failed test."""
    report = yield
    target = getattr(item, "funcargs", {}).get("target")
    if report.failed and target is not None:
        report.sections.append(("the server's log", target.logs()[-LOG_TAIL:]))
    return report


# ---- servers ----


class Servers:
    """The shared server: reused by consecutive modules with the same environment, otherwise replaced."""

    def __init__(self, start: Callable[[Environment], Target]) -> None:
        self._start = start
        self._running: tuple[dict[str, str | None], Target] | None = None

    def get(self, environment: Environment) -> Target:
        if self._running is None or self._running[0] != environment:
            self.stop()
            self._running = dict(environment), self._start(environment)
        return self._running[1]

    def stop(self) -> None:
        if self._running is not None:
            self._running[1].stop()
            self._running = None


@pytest.fixture(scope="session")
def zoo(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Zoo:
    kind = ZOOS[str(request.config.getoption("--artifacts", "huggingface"))]
    return kind(tmp_path_factory.mktemp("models"))


@pytest.fixture(scope="session")
def ordinary(request: pytest.FixtureRequest, zoo: Zoo) -> Environment:
    workers = request.config.getoption("--workers")
    return {"MME_DEVICE_MEMORY": str(zoo.device_memory_nbytes), "MME_WORKERS": workers}


@pytest.fixture(scope="session")
def start(
    request: pytest.FixtureRequest, zoo: Zoo, tmp_path_factory: pytest.TempPathFactory
) -> Callable[[Environment], Target]:
    """Launch a server of the chosen kind and wait until it responds; the caller stops it."""
    launch = {**TARGETS, "image": launch_image}[_target_name(request.config)]

    def start(environment: Environment) -> Target:
        target = launch(environment, zoo.root, tmp_path_factory.mktemp("server"))
        try:
            answering(target)
        except BaseException:
            target.stop()
            raise
        return target

    return start


@pytest.fixture(scope="session")
def servers(start: Callable[[Environment], Target]) -> Iterator[Servers]:
    servers = Servers(start)
    yield servers
    servers.stop()


@pytest.fixture
def target(request: pytest.FixtureRequest, servers: Servers, ordinary: Environment) -> Target:
    """The shared server without models; a module's ENVIRONMENT is added to the default one."""
    server = servers.get({**ordinary, **getattr(request.module, "ENVIRONMENT", {})})
    with Client(server.base_url) as client:
        client.clear()
        assert client.gauges()[RESERVED] == 0
    return server


@pytest.fixture
def client(target: Target) -> Iterator[Client]:
    with Client(target.base_url) as client:
        yield client


@pytest.fixture
def launch(
    start: Callable[[Environment], Target], ordinary: Environment
) -> Iterator[Callable[..., Target]]:
    """`launch(NAME="value", …)` starts a server for one test; it is stopped at the end."""
    with ExitStack() as stack:

        def launch(**environment: str | None) -> Target:
            target = start({**ordinary, **environment})
            stack.callback(target.stop)
            return target

        yield launch


@pytest.fixture
def pid(target: Target) -> int:
    """The server's process id; skips the test if the server has no separate process."""
    if target.pid is None:
        pytest.skip("needs a server that is a process of its own")
    return target.pid
