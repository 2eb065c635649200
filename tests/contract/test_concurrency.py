"""Group H: concurrency."""

import random
import statistics
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest

from tests.contract.artifacts import Zoo, tokens
from tests.contract.client import PLATFORM_LIMIT_S, Client, label
from tests.contract.targets import RESERVED, RUNNING, Target, memory
from tests.contract.waiting import background, together, until

pytestmark = pytest.mark.differs(
    "mms", reason="not compared: so many loads take minutes, since each imports PyTorch"
)

STORM_S, STORM_CALLERS, STORM_NAMES = 10.0, 20, 10
STORM_TOLERANCE = 96 << 20
ALLOWED = {
    "load": {200, 409, 503, 507},
    "invoke": {200, 404, 503},
    "unload": {200, 404},
}


def begun(client: Client) -> None:
    """Wait until the load of SLOWLOAD has reserved bytes, which means that it is in progress."""
    until(lambda: client.gauges()[RESERVED])


@pytest.mark.case(66)
def test_two_loads_of_one_name(client: Client, zoo: Zoo) -> None:
    """One 200, one 409; the bytes are held once."""
    client.load("A", zoo.a)
    once = client.gauges()[RESERVED]
    client.unload("A")
    for _ in range(10):
        loads = [lambda: client.load("A", zoo.a).status_code] * 2
        assert sorted(together(loads)) == [200, 409]
        assert client.gauges()[RESERVED] == pytest.approx(once, abs=zoo.slack_nbytes)
        client.unload("A")


@pytest.mark.case(66)
def test_409_does_not_wait_for_the_load(client: Client, zoo: Zoo) -> None:
    """A loading model's name is in use, and the 409 comes before the load has finished."""
    url = zoo.slow_load
    with background(lambda: client.load("slow-load", url)) as loading:
        begun(client)
        assert client.load("slow-load", url).status_code == 409
        assert not loading.done()
    assert loading.result().status_code == 200


@pytest.mark.case(67, 68)
def test_during_a_load(client: Client, zoo: Zoo) -> None:
    """A loading model is not listed and not described; an invoke waits for the load or is 404."""
    url = zoo.slow_load
    with background(lambda: client.load("slow-load", url)) as loading:
        begun(client)
        assert client.describe("slow-load").status_code == 404
        assert client.names() == set()
        assert not loading.done()
        answer = client.invoke("slow-load")
    assert answer.status_code in (200, 404)
    assert loading.result().status_code == 200
    assert client.invoke("slow-load").status_code == 200


@pytest.mark.case(69)
def test_delete_during_a_load(client: Client, zoo: Zoo) -> None:
    """Both get a response; if the delete reports success, nothing of the model is left."""
    url = zoo.slow_load
    with background(lambda: client.load("slow-load", url)) as loading:
        begun(client)
        deleted = client.unload("slow-load").status_code
    assert loading.result().status_code in (200, 500, 503)
    assert deleted in (200, 404)
    assert client.unload("slow-load").status_code == 404
    assert client.names() == set()
    assert client.gauges()[RESERVED] == 0


@pytest.mark.case(70)
def test_delete_during_an_invoke(client: Client, zoo: Zoo) -> None:
    """Both get a response; once the delete has begun, other requests get 404."""
    client.load("slow", zoo.slow)
    with background(lambda: client.invoke("slow", tokens(1500))) as answer:
        until(lambda: client.gauges()[RUNNING])
        with background(lambda: client.unload("slow")) as unloading:
            until(lambda: client.describe("slow").status_code == 404)
            assert not unloading.done()
            assert client.invoke("slow", tokens(1)).status_code == 404
            assert client.unload("slow").status_code == 404
    assert answer.result().status_code in (200, 503)
    assert unloading.result().status_code == 200
    assert client.gauges()[RESERVED] == 0


@pytest.mark.case(71)
def test_two_deletes(client: Client, zoo: Zoo) -> None:
    """One 200, one 404."""
    for _ in range(10):
        client.load("A", zoo.a)
        assert sorted(together([lambda: client.unload("A").status_code] * 2)) == [200, 404]


@pytest.mark.case(72)
def test_delete_and_load_at_once(client: Client, zoo: Zoo) -> None:
    """(200, 200) means that the load came last; (200, 409), that the delete came last."""
    for _ in range(15):
        client.load("A", zoo.a)
        calls: list[Callable[[], httpx.Response]] = [
            lambda: client.unload("A"),
            lambda: client.load("A", zoo.b),
        ]
        deleted, loaded = (response.status_code for response in together(calls))
        assert (deleted, loaded) in {(200, 200), (200, 409)}
        assert client.names() == ({"A"} if loaded == 200 else set())
        if loaded == 200:
            assert label(client.invoke("A")).startswith("B")
            client.unload("A")
        assert client.gauges()[RESERVED] == 0


def latencies(client: Client, go_on: Callable[[int], bool]) -> list[float]:
    taken: list[float] = []
    while go_on(len(taken)):
        began = time.monotonic()
        assert client.invoke("A").status_code == 200
        taken.append(time.monotonic() - began)
    return taken


@pytest.mark.case(73)
def test_loads_do_not_block_other_models(client: Client, zoo: Zoo) -> None:
    """While B is loaded and unloaded repeatedly, no request for A takes as long as a load."""
    client.load("A", zoo.a)
    latencies(client, lambda done: done < 20)
    alone = latencies(client, lambda done: done < 100)

    def load_and_unload() -> None:
        for _ in range(10):
            assert client.load("B", zoo.b).status_code == 200
            assert client.unload("B").status_code == 200

    with background(load_and_unload) as busy:
        beside = latencies(client, lambda _: not busy.done())
    busy.result()
    assert statistics.median(beside) < 10 * statistics.median(alone) + 0.05
    assert max(beside) < 1


@pytest.mark.case(74)
def test_eight_parallel_loads(client: Client, zoo: Zoo) -> None:
    """All 200, all listed, each the right model."""
    names = [f"{letter}{index}" for index in range(4) for letter in "AB"]
    urls = {"A": zoo.a, "B": zoo.b}
    loads = [lambda name=name: client.load(name, urls[name[0]]).status_code for name in names]
    assert together(loads) == [200] * 8
    assert client.names() == set(names)
    assert [label(client.invoke(name))[0] for name in names] == [name[0] for name in names]


@pytest.mark.case(75)
def test_overload(client: Client, zoo: Zoo) -> None:
    """Far more requests than the model's queue holds: each gets 200, or 503 with Retry-After, quickly."""
    client.load("narrow", zoo.narrow)
    began = time.monotonic()
    with ThreadPoolExecutor(48) as pool:
        answers = list(pool.map(lambda _: client.invoke("narrow", tokens(40)), range(48)))
    assert time.monotonic() - began < PLATFORM_LIMIT_S
    refused = [answer for answer in answers if answer.status_code == 503]
    assert {answer.status_code for answer in answers} == {200, 503}
    assert all(answer.headers["retry-after"].isdecimal() for answer in refused)
    assert client.invoke("narrow", tokens(1)).status_code == 200


class Storm:
    """One of many clients: loads, invokes and unloads shared names at random, and checks each response."""

    def __init__(self, client: Client, urls: list[Path], seed: int) -> None:
        self._client = client
        self._urls = urls
        self._random = random.Random(seed)
        self.answered = 0

    def run(self, deadline: float) -> None:
        while time.monotonic() < deadline:
            index = self._random.randrange(STORM_NAMES)
            verb = self._random.choices(("invoke", "load", "unload"), (6, 3, 1))[0]
            response = getattr(self, f"_{verb}")(f"model-{index}", index % 2)
            assert response.status_code in ALLOWED[verb], (verb, response.text)

    def _load(self, name: str, which: int) -> httpx.Response:
        return self._client.load(name, self._urls[which])

    def _unload(self, name: str, _which: int) -> httpx.Response:
        return self._client.unload(name)

    def _invoke(self, name: str, which: int) -> httpx.Response:
        response = self._client.invoke(name)
        if response.status_code == 200:
            assert label(response).startswith("AB"[which])
            self.answered += 1
        return response


@pytest.mark.case(76)
def test_storm(client: Client, target: Target, zoo: Zoo) -> None:
    """20 callers, 10 names, 10 s. Afterwards everything can be unloaded and the memory is back."""
    before = memory(target, client)
    deadline = time.monotonic() + STORM_S
    callers = [Storm(client, [zoo.a, zoo.b], seed) for seed in range(STORM_CALLERS)]
    with ThreadPoolExecutor(STORM_CALLERS) as pool:
        runs: list[Future[None]] = [pool.submit(caller.run, deadline) for caller in callers]
    for run in runs:
        run.result()
    assert sum(caller.answered for caller in callers) > STORM_CALLERS
    client.clear()
    after = memory(target, client)
    assert client.names() == set()
    assert after.reserved == before.reserved == 0
    assert after.resident - before.resident < STORM_TOLERANCE
