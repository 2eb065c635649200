"""Group A: start-up and health."""

import contextlib
import json
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest

from tests.contract import raw
from tests.contract.artifacts import SLACK_NBYTES, Zoo, tokens
from tests.contract.client import Client, label, path_of
from tests.contract.targets import (
    RESERVED,
    RUNNING,
    ServerProcess,
    Target,
    address,
    launch_process,
    processes,
)
from tests.contract.waiting import background, until

PING_LIMIT_S, ROUNDS = 2.0, 10


def worst_while(running: Future[httpx.Response], client: Client) -> float:
    """The longest time of a ping or list while the future ran; both must return 200."""
    worst, rounds = 0.0, 0
    while not running.done():
        for ask in (client.ping, client.list):
            began = time.monotonic()
            assert ask().status_code == 200
            worst = max(worst, time.monotonic() - began)
        rounds += 1
    assert rounds >= ROUNDS, "it waited for what it should have run beside"
    return worst


@pytest.mark.case(1, 2)
def test_answers_at_once_with_no_model(launch: Callable[..., Target]) -> None:
    """200 and an empty list from the first second on, while the worker is still starting."""
    began = time.monotonic()
    server = launch()
    with Client(server.base_url, timeout_s=PING_LIMIT_S) as client:
        assert client.ping().status_code == 200
        assert client.list().json() == {"models": []}
    assert time.monotonic() - began < 5


@pytest.mark.case(3)
def test_quick_during_load(client: Client, zoo: Zoo) -> None:
    """A load that takes seconds delays neither ping nor list."""
    url = zoo.slow_load
    with background(lambda: client.load("slow-load", url)) as loading:
        assert worst_while(loading, client) < PING_LIMIT_S
    assert loading.result().status_code == 200


@pytest.mark.differs("mms", reason="not compared: it has no memory ledger to observe")
@pytest.mark.case(3)
def test_quick_during_invoke_and_delete(client: Client, zoo: Zoo) -> None:
    """A long inference, and a delete that waits for it, delay neither ping nor list."""
    client.load("slow", zoo.slow)
    with background(lambda: client.invoke("slow", tokens(2000))) as answer:
        until(lambda: client.gauges()[RUNNING])
        with background(lambda: client.unload("slow")) as unloading:
            assert worst_while(unloading, client) < PING_LIMIT_S
    assert answer.result().status_code in (200, 503)
    assert unloading.result().status_code == 200


def listening(target: Target) -> set[int]:
    sockets = (each for one in processes(target) for each in sockets_of(one))
    return {each.laddr.port for each in sockets if each.status == psutil.CONN_LISTEN}


def sockets_of(process: psutil.Process) -> list[Any]:
    """Empty for a process that has ended meanwhile: Java's start has helpers that live briefly."""
    with contextlib.suppress(psutil.NoSuchProcess):
        return [*process.net_connections("inet")]
    return []


@pytest.mark.case(4, 5)
@pytest.mark.usefixtures("pid")
def test_listens_where_it_was_told_and_nowhere_else(
    client: Client, target: Target, zoo: Zoo
) -> None:
    """Tested with a loaded model, so that all of the server's processes are running."""
    client.load("A", zoo.a)
    assert listening(target) == {address(target)[1]}


@pytest.mark.case(4)
@pytest.mark.usefixtures("pid")
def test_listens_on_8080_otherwise(launch: Callable[..., Target]) -> None:
    """Without SAGEMAKER_BIND_TO_PORT."""
    used = {each.laddr.port for each in psutil.net_connections("inet") if each.laddr}
    if 8080 in used:
        pytest.skip("port 8080 is taken on this machine")
    assert listening(launch(SAGEMAKER_BIND_TO_PORT=None)) == {8080}


@pytest.mark.differs("mms", reason="not compared: it has no memory ledger to observe")
@pytest.mark.case(6)
def test_accepts_within_250_ms_under_load(client: Client, target: Target, zoo: Zoo) -> None:
    """With 64 invokes in flight, each on its own connection."""
    client.load("slow", zoo.slow)
    body = raw.post(path_of("slow") + "/invoke", json.dumps(tokens(100)).encode())
    held = [raw.connect(address(target), timeout_s=60) for _ in range(64)]
    for connection in held:
        connection.sendall(body)
    until(lambda: client.gauges()[RUNNING])
    for _ in range(10):
        began = time.monotonic()
        raw.connect(address(target)).close()
        assert time.monotonic() - began < 0.25
    answers = [raw.Answer(connection).status for connection in held]
    for connection in held:
        connection.close()
    assert set(answers) <= {200, 503}
    assert 200 in answers


def snapshot(root: Path) -> dict[str, tuple[int, int]]:
    """Every path below the root with its size and modification time."""
    return {
        str(path.relative_to(root)): (path.stat().st_size, path.stat().st_mtime_ns)
        for path in root.rglob("*")
    }


def use_everything(client: Client, zoo: Zoo) -> None:
    for name, url in {"A": zoo.a, "slow": zoo.slow, "vision": zoo.vision}.items():
        assert client.load(name, url).status_code == 200
    assert client.invoke("A").status_code == 200
    assert client.invoke("slow", tokens(3)).status_code == 200
    assert client.load("broken", zoo.broken("no-tokenizer")).status_code >= 400
    client.clear()


@pytest.mark.case(7)
def test_writes_nothing_to_the_model_root(client: Client, zoo: Zoo) -> None:
    """Loads, failed loads, invokes and unloads change no file."""
    directories = (zoo.a, zoo.slow, zoo.vision, zoo.broken("no-tokenizer"))
    before = snapshot(zoo.root)
    use_everything(client, zoo)
    assert snapshot(zoo.root) == before
    assert all(path.is_dir() for path in directories)


def in_namespaces(*setup: str) -> list[str]:
    """A command prefix that runs the setup in new mount and network namespaces, if the kernel allows it."""
    script = " && ".join([*setup, 'exec "$@"'])
    prefix = ["unshare", "--map-root-user", "--mount", "--net", "sh", "-c", script, "sh"]
    try:
        trial = subprocess.run([*prefix, "true"], capture_output=True, check=False)
    except FileNotFoundError:
        pytest.skip("needs unshare, or a container runtime")
    if trial.returncode:
        pytest.skip("this machine grants no namespaces of one's own")
    return prefix


def launched(
    prefix: list[str], zoo: Zoo, scratch: Path, request: pytest.FixtureRequest
) -> ServerProcess:
    if request.config.getoption("--target") != "process":
        pytest.skip("needs a server that is a process of its own")
    environment = {"MME_DEVICE_MEMORY": str(SLACK_NBYTES * 1024)}
    server = launch_process(environment, zoo.root, scratch, prefix)
    request.addfinalizer(server.stop)
    return server


VISIT = """
import http.client, json, sys
def ask(method, path, document=None):
    connection = http.client.HTTPConnection("127.0.0.1", int(sys.argv[1]), timeout=60)
    connection.request(method, path, document and json.dumps(document))
    return connection.getresponse().status
statuses = [ask("GET", "/ping")]
for url in sys.argv[2:]:
    statuses.append(ask("POST", "/models", {"model_name": url[1:].replace("/", "-"), "url": url}))
statuses.append(ask("POST", "/invocations", {"inputs": "a fox"}))
print(json.dumps(statuses))
"""


@pytest.mark.case(7, 8)
def test_serves_read_only_and_without_a_network(
    zoo: Zoo, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    """In separate namespaces with only a loopback device, and with a read-only model root."""
    broken, good = zoo.broken("no-tokenizer"), zoo.a
    prefix = in_namespaces(
        f"{sys.executable} {Path(__file__).parent / 'loopback.py'}",
        f"mount --bind {zoo.root} {zoo.root}",
        f"mount -o remount,ro,bind {zoo.root}",
    )
    server = launched(prefix, zoo, tmp_path, request)
    until(lambda: "starting" in server.logs())  # it has entered its namespaces
    enter = ["nsenter", "--preserve-credentials", "--user", "--net", "--target", str(server.pid)]
    port = str(address(server)[1])
    visit = [*enter, sys.executable, "-c", VISIT, port, str(broken), str(good)]

    def statuses() -> list[int]:
        """None while the server does not respond."""
        done = subprocess.run(visit, capture_output=True, check=False, timeout=120)
        return list(json.loads(done.stdout or "[]"))

    ping, load_broken, load_good, invoke = until(statuses, within_s=30)
    assert (ping, load_good, invoke) == (200, 200, 200)
    assert load_broken >= 400


@pytest.mark.differs("mms", reason="not compared: it has no memory ledger to observe")
@pytest.mark.case(9)
def test_healthy_after_a_failed_load(client: Client, zoo: Zoo) -> None:
    """A broken artifact must not make the platform replace the instance; other models keep serving."""
    client.load("A", zoo.a)
    assert client.load("bad", zoo.broken("corrupt-header")).status_code >= 400
    assert client.ping().status_code == 200
    assert label(client.invoke("A")).startswith("A")
    assert client.gauges()[RESERVED] > 0
