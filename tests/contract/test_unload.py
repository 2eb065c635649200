"""Group F: unload."""

import contextlib
import shutil
import time
from pathlib import Path

import psutil
import pytest

from tests.contract.artifacts import Zoo, tokens
from tests.contract.client import Client
from tests.contract.targets import RESERVED, Target, memory, processes

TOLERANCE = 16 << 20


@pytest.mark.differs("mms", reason="not compared: it has no memory ledger to observe")
@pytest.mark.case(49)
def test_memory_is_released_before_the_response(client: Client, target: Target, zoo: Zoo) -> None:
    """Reserved bytes and RSS, read right after the 200."""
    client.load("A", zoo.a)
    client.unload(
        "A"
    )  # the first load of a process allocates memory that stays; this test does not count it
    before = memory(target, client)
    client.load("big", zoo.big)
    assert client.invoke("big").status_code == 200
    assert client.gauges()[RESERVED] > before.reserved
    assert client.unload("big").status_code == 200
    after = memory(target, client)
    assert after.reserved == before.reserved == 0
    assert after.resident - before.resident < TOLERANCE


@pytest.mark.case(50, 51)
def test_unloading_an_unknown_model(client: Client, zoo: Zoo) -> None:
    """404 for a model that was never loaded or is already unloaded."""
    assert client.unload("A").status_code == 404
    client.load("A", zoo.a)
    assert client.unload("A").status_code == 200
    assert client.unload("A").status_code == 404


@pytest.mark.differs("mms", reason="405 without Allow")
@pytest.mark.case(52)
def test_the_list_cannot_be_deleted(client: Client, zoo: Zoo) -> None:
    """405, and all models stay loaded."""
    client.load("A", zoo.a)
    response = client.request("DELETE", "/models")
    assert response.status_code == 405
    assert set(response.headers["allow"].replace(" ", "").split(",")) >= {"GET", "POST"}
    assert client.names() == {"A"}


def held(target: Target, directory: Path) -> list[str]:
    """Open files and mappings below the directory, in any of the server's processes."""
    found = []
    for process in processes(target):
        with contextlib.suppress(psutil.NoSuchProcess):
            paths = [file.path for file in process.open_files()]
            paths += [each.path for each in process.memory_maps()]
            found += [path for path in paths if path.startswith(str(directory))]
    return found


@pytest.mark.case(53)
@pytest.mark.usefixtures("pid")
@pytest.mark.parametrize("which", ["a", "slow", "vision"])
def test_files_are_closed(client: Client, target: Target, zoo: Zoo, which: str) -> None:
    """No descriptor and no mapping is left; the directory can be removed and replaced."""
    copy = zoo.copy(f"removable-{which}", getattr(zoo, which))
    assert client.load("copy", copy).status_code == 200
    if which != "vision":
        assert client.invoke("copy", tokens(2) if which == "slow" else {"inputs": "a"}).is_success
    client.unload("copy")
    assert held(target, copy) == []
    shutil.rmtree(copy.parent)
    assert client.load("copy", copy).status_code == 404


@pytest.mark.case(53)
@pytest.mark.usefixtures("pid")
@pytest.mark.parametrize(
    "kind", ["corrupt-header", "truncated-weights", "other-shapes", "no-tokenizer"]
)
def test_files_of_a_failed_load_are_closed(
    client: Client, target: Target, zoo: Zoo, kind: str
) -> None:
    """After a failed load no descriptor and no mapping is left either."""
    url = zoo.broken(kind)
    assert client.load("bad", url).status_code >= 400
    assert held(target, url) == []


@pytest.mark.case(54)
def test_an_idle_model_unloads_quickly(client: Client, zoo: Zoo) -> None:
    """Within 5 s, also for the largest model that fits."""
    for url in (zoo.a, zoo.big):
        client.load("model", url)
        began = time.monotonic()
        assert client.unload("model").status_code == 200
        assert time.monotonic() - began < 5
