"""Tests for images only: labels, the first process, users and limits."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.contract import image
from tests.contract.artifacts import Zoo
from tests.contract.client import Client, label
from tests.contract.targets import answering, terminate
from tests.contract.waiting import until

CAPABILITY = "com.amazonaws.sagemaker.capabilities."
MEMORY = "1200m"
Start = Callable[..., image.Container]


@pytest.fixture
def start(
    request: pytest.FixtureRequest, zoo: Zoo, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Start]:
    """`start("--user", "1000", NAME="value")` starts a container for one test."""
    if request.config.getoption("--target") != "image":
        pytest.skip("needs the built image")
    with ExitStack() as stack:

        def start(*options: str, **environ: str | None) -> image.Container:
            scratch = tmp_path_factory.mktemp("container")
            container = image.launch_image(environ, zoo.root, scratch, options)
            stack.callback(container.stop)
            answering(container)
            return container

        yield start


def serves(container: image.Container, model: Path) -> None:
    with Client(container.base_url) as client:
        assert client.ping().status_code == 200
        assert client.load("A", model).status_code == 200
        assert label(client.invoke("A")).startswith("A")


def readable(model: Path) -> None:
    """Make files readable for all users: only the owner can read pytest's directories and the weights."""
    model.parents[1].chmod(0o755)
    for file in model.iterdir():
        file.chmod(0o644)


@pytest.mark.case(91)
@pytest.mark.usefixtures("start")
def test_labels() -> None:
    labels = image.inspected()["Labels"]
    assert labels[CAPABILITY + "multi-models"] == "true"
    assert labels[CAPABILITY + "accept-bind-to-port"] == "true"
    assert labels["org.opencontainers.image.version"]


@pytest.mark.case(88)
def test_serve_and_its_signals(start: Start, zoo: Zoo) -> None:
    """PID 1 gets SIGTERM, exits with 0, and leaves no process running."""
    container = start()
    serves(container, zoo.a)
    assert image.ask("top", container.name, "pid").split()[1] == "1"
    terminate(container)
    assert container.popen.wait(10) == 0


@pytest.mark.case(92)
@pytest.mark.parametrize("user", ["0:0", "1000:1000", "54321:0"])
def test_any_user(start: Start, zoo: Zoo, user: str) -> None:
    readable(zoo.a)
    serves(start("--user", user), zoo.a)


@pytest.mark.case(58)
def test_a_load_beyond_the_memory_limit_is_refused(start: Start, zoo: Zoo) -> None:
    """Without a configured budget, the container's limit applies: 507, and no process is killed."""
    container = start("--memory", MEMORY, MME_DEVICE_MEMORY=None)
    with Client(container.base_url) as client:
        statuses = [client.load(f"huge-{number}", zoo.huge).status_code for number in range(6)]
        assert set(statuses) == {200, 507}
        assert statuses == sorted(statuses)
        until(lambda: client.invoke("huge-0").status_code == 200)
        assert client.ping().status_code == 200
    assert container.popen.poll() is None


@pytest.mark.case(8)
def test_no_network(start: Start) -> None:
    """The container starts without a network, and its health check succeeds."""
    container = start("--env", "HF_HUB_OFFLINE=1")
    command = image.inspected()["Healthcheck"]["Test"]
    assert command[0] == "CMD"
    image.ask("exec", container.name, *command[1:])
