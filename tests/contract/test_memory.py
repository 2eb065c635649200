"""Group G: memory. The servers under test have 64 MiB; large models have weights of zeros in sparse files."""

import contextlib
import time
from functools import partial

import psutil
import pytest

from tests.contract.artifacts import Zoo
from tests.contract.client import Client, label
from tests.contract.targets import (
    RESERVED,
    Target,
    kill_workers,
    memory,
    newcomer,
    worker,
    workers,
)
from tests.contract.waiting import background, together, until

ROUNDS = 20
RESIDENT_TOLERANCE = 64 << 20  # less than one leaked BIG; 20 would be 1.2 GiB
POSSIBLE, IMPOSSIBLE = {"inputs": [3]}, {"inputs": [10**15]}


@pytest.mark.differs(
    "mms", reason="it does not know sizes before a load, so it loads models that do not fit"
)
@pytest.mark.case(55, 56, 57, 65)
def test_a_model_that_can_never_fit(client: Client, target: Target, zoo: Zoo) -> None:
    """An immediate 507 each time; nothing of the model remains, and the server stays healthy."""
    client.load("A", zoo.a)
    before = memory(target, client)
    for _ in range(3):
        began = time.monotonic()
        assert client.load("huge", zoo.huge).status_code == 507
        assert time.monotonic() - began < 1
        assert client.names() == {"A"}
        assert client.describe("huge").status_code == 404
        assert client.invoke("huge").status_code == 404
        assert client.unload("huge").status_code == 404
    after = memory(target, client)
    assert after.reserved == before.reserved
    assert after.resident - before.resident < RESIDENT_TOLERANCE
    assert client.ping().status_code == 200


@pytest.mark.differs("mms", reason="it has no memory budget, so no 507 before memory runs out")
@pytest.mark.case(58, 59)
def test_evict_and_retry(client: Client, zoo: Zoo) -> None:
    """Like the platform after a 507: unload another model, then repeat the load."""
    client.load("A", zoo.a)
    assert client.load("big", zoo.big).status_code == 507
    assert label(client.invoke("A")).startswith("A")
    assert client.unload("A").status_code == 200
    assert client.load("big", zoo.big).status_code == 200
    assert client.invoke("big").status_code == 200
    assert client.load("A", zoo.a).status_code == 507


@pytest.mark.differs("mms", reason="it has no memory budget, so no load is refused")
@pytest.mark.case(60)
def test_rounds_of_eviction_keep_no_memory(client: Client, target: Target, zoo: Zoo) -> None:
    """20 rounds: neither the reserved bytes nor the RSS grow."""
    one_round(client, zoo)
    before = memory(target, client)
    for _ in range(ROUNDS):
        one_round(client, zoo)
    after = memory(target, client)
    assert after.reserved == before.reserved == 0
    assert after.resident - before.resident < RESIDENT_TOLERANCE


def one_round(client: Client, zoo: Zoo) -> None:
    steps = [
        (client.load("A", zoo.a), 200),
        (client.load("big", zoo.big), 507),
        (client.unload("A"), 200),
        (client.load("big", zoo.big), 200),
        (client.unload("big"), 200),
        (client.load("A", zoo.a), 200),
        (client.unload("A"), 200),
    ]
    assert [response.status_code for response, _ in steps] == [status for _, status in steps]


@pytest.mark.case(61)
def test_out_of_memory_while_inferring(client: Client, target: Target, zoo: Zoo) -> None:
    """The allocator raises: 507 for that request only; its model and others keep serving."""
    client.load("hoarding", zoo.hoarding)
    client.load("A", zoo.a)
    before = memory(target, client)
    for _ in range(3):
        assert client.invoke("hoarding", IMPOSSIBLE).status_code == 507
        assert client.invoke("hoarding", POSSIBLE).status_code == 200
        assert label(client.invoke("A")).startswith("A")
    after = memory(target, client)
    assert after.reserved == pytest.approx(before.reserved, abs=2 * zoo.slack_nbytes)
    assert after.resident - before.resident < RESIDENT_TOLERANCE
    assert client.names() == {"hoarding", "A"}


@pytest.mark.differs("mms", reason="it has no memory budget, so no load is refused")
@pytest.mark.case(62)
def test_two_loads_that_fit_singly(client: Client, zoo: Zoo) -> None:
    """Two concurrent loads: one gets 200, the other 507, and the listed model serves."""
    for _ in range(5):
        loads = [partial(client.load, name, zoo.big) for name in ("one", "two")]
        statuses = sorted(response.status_code for response in together(loads))
        assert statuses == [200, 507]
        (loaded,) = client.names()
        assert client.invoke(loaded).status_code == 200
        assert client.unload(loaded).status_code == 200


@pytest.mark.differs("mms", reason="not compared: its processes cannot be found by name")
@pytest.mark.case(63)
@pytest.mark.usefixtures("pid")
def test_worker_killed_during_a_load(client: Client, target: Target, zoo: Zoo) -> None:
    """The load fails with a 5xx or 507, its name is free, and the models loaded before serve again."""
    client.load("A", zoo.a)
    before, other = client.gauges()[RESERVED], worker(target, zoo)
    url = zoo.slow_load
    with background(lambda: client.load("doomed", url)) as loading:
        until(lambda: client.gauges()[RESERVED] > before)
        kill(target, zoo, other)
    assert loading.result().status_code >= 500
    assert client.describe("doomed").status_code == 404
    until(lambda: client.invoke("A").status_code == 200, within_s=30)
    assert client.gauges()[RESERVED] == pytest.approx(before, abs=zoo.slack_nbytes)
    client.unload("A")
    assert client.gauges()[RESERVED] == 0


def kill(target: Target, zoo: Zoo, other: psutil.Process) -> None:
    """Kill the process that loads: any worker may be it; for an isolated model it is its own process."""
    if zoo.isolated:
        newcomer(target, zoo, {other.pid}).kill()
    else:
        kill_workers(target, zoo)


@pytest.mark.differs("mms", reason="models that do not fit are read")
@pytest.mark.case(65)
@pytest.mark.usefixtures("pid")
def test_refused_without_reading(client: Client, target: Target, zoo: Zoo) -> None:
    """HUGE is four times the budget; it is refused before a process reads its weights."""
    client.load("A", zoo.a)
    before = sum(map(read_nbytes, workers(target, zoo)))
    assert client.load("huge", zoo.huge).status_code == 507
    after = sum(map(read_nbytes, workers(target, zoo)))
    assert after - before < zoo.device_memory_nbytes / 8


def read_nbytes(process: psutil.Process) -> int:
    with contextlib.suppress(psutil.AccessDenied):
        return int(process.io_counters().read_chars)
    pytest.skip("this machine does not let us count what a process reads")


@pytest.mark.differs("mms", reason="not compared: it has no memory ledger to observe")
@pytest.mark.case(55)
def test_reserved_bytes_are_those_held(client: Client, target: Target, zoo: Zoo) -> None:
    """Reserved bytes are those of the files' tensors, apart from file headers and buffers; for an isolated
    process, the memory that its end would free."""
    client.load("A", zoo.a)
    if zoo.isolated:
        maps = worker(target, zoo).memory_maps()
        held, tolerance = sum(each.private_dirty for each in maps), 0.2
    else:
        held, tolerance = (zoo.a / "model.safetensors").stat().st_size, 0.2
    assert client.gauges()[RESERVED] == pytest.approx(held, rel=tolerance)
    assert client.gauges()['mme_memory_capacity_bytes{tier="device"}'] == zoo.device_memory_nbytes
