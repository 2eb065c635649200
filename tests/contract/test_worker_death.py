"""The worker is killed by SIGKILL: no wrong response, no hang, and service recovers without new loads."""

import functools
import threading
from concurrent.futures import ThreadPoolExecutor

import psutil
import pytest

from tests.contract.artifacts import Zoo, tokens
from tests.contract.client import Client, label
from tests.contract.targets import RESERVED, RUNNING, Target, kill_workers, worker
from tests.contract.waiting import background, together, until

pytestmark = [
    pytest.mark.usefixtures("pid"),
    pytest.mark.differs("mms", reason="not compared: its processes cannot be found by name"),
]
CALLERS, DEATHS = 6, 3
RESTORE_LIMIT_S = 20.0


def serves(client: Client, name: str) -> bool:
    return client.invoke(name).status_code == 200


def serve_again(client: Client, *names: str) -> None:
    for name in names:
        until(functools.partial(serves, client, name), within_s=RESTORE_LIMIT_S)


def gone(process: psutil.Process) -> bool:
    return not process.is_running() or process.status() == psutil.STATUS_ZOMBIE


def kill_under_load(client: Client, target: Target, zoo: Zoo) -> int:
    """Kill the worker after it has served both models. Returns its process id."""
    serve_again(client, "A", "B")
    answered = client.gauges()["mme_batch_size_count"]
    until(lambda: client.gauges()["mme_batch_size_count"] > answered + 20)
    victim = worker(target, zoo)
    victim.kill()
    until(lambda: gone(victim))
    return int(victim.pid)


def test_under_load(client: Client, target: Target, zoo: Zoo) -> None:
    """Three consecutive times: every response is correct or 503, and no bytes stay reserved in the end."""
    client.load("A", zoo.a)
    client.load("B", zoo.b)
    stop = threading.Event()

    def call(name: str) -> list[int]:
        statuses = []
        while not stop.is_set():
            response = client.invoke(name)
            statuses.append(response.status_code)
            assert response.status_code in (200, zoo.killed)
            assert response.status_code != 200 or label(response).startswith(name)
        return statuses

    with ThreadPoolExecutor(CALLERS) as pool:
        calls = [pool.submit(call, "AB"[index % 2]) for index in range(CALLERS)]
        try:
            killed = [kill_under_load(client, target, zoo) for _ in range(DEATHS)]
            serve_again(client, "A", "B")
        finally:
            stop.set()
    assert len(set(killed)) == DEATHS
    assert all(200 in done.result() for done in calls)
    assert client.names() == {"A", "B"}
    assert client.ping().status_code == 200
    client.clear()
    assert client.gauges()[RESERVED] == 0


def test_while_inferring(client: Client, target: Target, zoo: Zoo) -> None:
    """The request that was running gets an immediate 503."""
    client.load("slow", zoo.slow)
    with background(lambda: client.invoke("slow", tokens(4000))) as answer:
        until(lambda: client.gauges()[RUNNING])
        kill_workers(target, zoo)
        assert answer.result(timeout=5).status_code == zoo.killed
    until(lambda: client.invoke("slow", tokens(2)).status_code == 200, within_s=RESTORE_LIMIT_S)


def test_while_unloading(client: Client, target: Target, zoo: Zoo) -> None:
    """A delete that waits for an inference gets a response, and so does the inference."""
    client.load("slow", zoo.slow)
    client.load("A", zoo.a)
    with background(lambda: client.invoke("slow", tokens(4000))) as answer:
        until(lambda: client.gauges()[RUNNING])
        with background(lambda: client.unload("slow")) as unloading:
            until(lambda: client.describe("slow").status_code == 404)
            kill_workers(target, zoo)
            assert unloading.result(timeout=10).status_code == 200
    assert answer.result().status_code == zoo.killed
    serve_again(client, "A")
    assert client.names() == {"A"}
    client.clear()
    assert client.gauges()[RESERVED] == 0


def test_the_fork_server_dies_too(client: Client, target: Target, zoo: Zoo) -> None:
    """Parent and child are killed together: both are restarted."""
    client.load("A", zoo.a)
    child = worker(target, zoo)
    parent = child.parent()
    assert parent is not None
    assert parent.pid != target.pid
    parent.kill()
    until(lambda: gone(child))
    until(lambda: client.invoke("A").status_code == 200, within_s=60)
    assert client.ping().status_code == 200


def test_loads_and_deletes_around_a_death(client: Client, target: Target, zoo: Zoo) -> None:
    """Each gets a response, and every reported success is true."""
    assert client.load("A", zoo.a).status_code == 200
    kill = worker(target, zoo).kill
    loaded, deleted, _ = together(
        [
            lambda: client.load("B", zoo.b).status_code,
            lambda: client.unload("A").status_code,
            lambda: kill() or 0,
        ]
    )
    assert loaded in (200, 500, 503)
    assert deleted == 200
    assert client.names() == ({"B"} if loaded == 200 else set())
    if loaded == 200:
        serve_again(client, "B")
    client.clear()
    assert client.gauges()[RESERVED] == 0
