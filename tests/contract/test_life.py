"""Group K: process life cycle. Each case starts its own servers and ends them with signals."""

import os
import re
import time
from collections.abc import Callable

import httpx
import psutil
import pytest

from tests.contract import raw
from tests.contract.artifacts import Zoo, tokens
from tests.contract.client import TARGET, Client, path_of
from tests.contract.targets import (
    RUNNING,
    ServerProcess,
    Target,
    address,
    log_lines,
    processes,
    terminate,
)
from tests.contract.waiting import background, until

STOP_LIMIT_S = 5.0
DRAIN_LIMIT_S = 30.0
Launched = Callable[..., ServerProcess]


@pytest.fixture
def process(launch: Callable[..., Target], request: pytest.FixtureRequest) -> Launched:
    """`launch`, for tests that send signals."""
    if request.config.getoption("--target") not in ("process", "image"):
        pytest.skip("needs a server that is a process of its own")

    def start(**environment: str) -> ServerProcess:
        server = launch(**environment)
        assert isinstance(server, ServerProcess)
        return server

    return start


def gone(family: list[psutil.Process]) -> bool:
    return not any(each.is_running() and each.status() != psutil.STATUS_ZOMBIE for each in family)


@pytest.mark.case(89)
def test_sigterm_when_idle(process: Launched, zoo: Zoo) -> None:
    """Exit 0 within 5 s with a model loaded, and no process stays behind."""
    server = process()
    with Client(server.base_url) as client:
        assert client.load("A", zoo.a).status_code == 200
        assert client.invoke("A").status_code == 200
    family = processes(server)
    assert len(family) > 1
    terminate(server)
    assert server.popen.wait(STOP_LIMIT_S) == 0
    until(lambda: gone(family), within_s=2)


@pytest.mark.case(89)
def test_sigterm_while_starting(process: Launched) -> None:
    """The same before the worker has started."""
    server = process()
    family = processes(server)
    terminate(server)
    assert server.popen.wait(STOP_LIMIT_S) == 0
    until(lambda: gone(family), within_s=2)


@pytest.mark.case(90)
def test_sigterm_in_flight(process: Launched, zoo: Zoo) -> None:
    """A request in flight gets its 200; new requests are refused, ping returns 503, then exit 0."""
    server = process()
    with Client(server.base_url) as client:
        client.load("slow", zoo.slow)
        with background(lambda: client.invoke("slow", tokens(1000))) as answer:
            until(lambda: client.gauges()[RUNNING])
            terminate(server)
            until(lambda: refused(client), within_s=5)
            assert not answer.done()
            assert refused_load(client, zoo)
    assert answer.result().status_code == 200
    assert server.popen.wait(DRAIN_LIMIT_S) == 0


def refused(client: Client) -> bool:
    """True if ping returns 503, or the server no longer listens."""
    try:
        return client.ping().status_code == 503
    except httpx.TransportError:
        return True


def refused_load(client: Client, zoo: Zoo) -> bool:
    try:
        return client.load("A", zoo.a).status_code == 503
    except httpx.TransportError:
        return True


@pytest.mark.case(90)
def test_sigterm_with_a_silent_connection(process: Launched, zoo: Zoo) -> None:
    """A client that never finishes its request does not keep the server alive."""
    server = process()
    with raw.connect(address(server)) as silent:
        silent.sendall(raw.head("POST", "/models", {"Content-Length": 100}))
        terminate(server)
        assert server.popen.wait(DRAIN_LIMIT_S) == 0


@pytest.mark.case(89)
def test_killed_front_leaves_no_orphans(process: Launched, zoo: Zoo) -> None:
    """SIGKILL cannot be handled, so that the other processes must detect the end of the front."""
    server = process()
    with Client(server.base_url) as client:
        assert client.load("A", zoo.a).status_code == 200
    family = processes(server)
    family[0].kill()
    server.popen.wait()
    until(lambda: gone(family), within_s=5)


@pytest.mark.differs("mms", reason="several log lines per request, in another format")
@pytest.mark.case(93)
def test_one_log_line_per_request(client: Client, target: Target, zoo: Zoo) -> None:
    """With the model's name and Target-Model; no line contains the payload, and ping is not logged."""
    secret = f"secret-{time.monotonic_ns()}"
    name, wanted = "logged-model", "folder/logged.tar.gz"
    client.load(name, zoo.a, target=wanted)
    until(lambda: log_lines(target, f"load_model.*{name}"))
    before = len(log_lines(target, name))
    for _ in range(3):
        assert client.invoke(name, {"inputs": secret}, **{TARGET: wanted}).status_code == 200
        client.ping()
    client.invoke(name, "{" + secret)
    until(lambda: len(log_lines(target, name)) - before >= 4)
    lines = log_lines(target, name)[before:]
    assert len(lines) == 4
    assert sum(wanted in line for line in lines) == 3
    assert secret not in target.logs()
    assert not log_lines(target, r"/ping")


@pytest.mark.differs("mms", reason="log lines are text and contain unescaped values of requests")
@pytest.mark.case(93)
def test_log_lines_cannot_be_forged(client: Client, target: Target, zoo: Zoo) -> None:
    """A line end in a name or header does not begin a new log line."""
    client.load("A", zoo.a)
    server = address(target)
    raw.exchange(server, raw.post("/models/x%0aforged-line/invoke", b"{}"))
    raw.exchange(server, raw.post(path_of("A") + "/invoke?q=%0aforged-line", b"{}"))
    client.ping()
    assert not log_lines(target, r"^forged-line")


@pytest.mark.differs("mms", reason="log files in addition to the output")
@pytest.mark.case(93)
@pytest.mark.usefixtures("pid")
def test_logs_go_nowhere_else(client: Client, target: Target, zoo: Zoo) -> None:
    """No process of the server has a file open for writing, except its standard streams."""
    client.load("A", zoo.a)
    client.invoke("A")
    standard = {os.path.realpath(f"/proc/{target.pid}/fd/{fd}") for fd in (1, 2)}
    written = {
        file.path
        for each in processes(target)
        for file in each.open_files()
        if re.search("[wa+]", getattr(file, "mode", "r"))
    }
    assert written <= standard
