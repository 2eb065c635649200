"""One of two devices is lost for good, or its worker is killed: the other one serves on."""

import threading
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

from tests.contract.waiting import until
from tests.fake_cuda.gpu import ASSERT, MIB
from tests.fake_cuda.gpu_server import GpuServer
from tests.fake_cuda.models import Models, nbytes
from tests.fake_cuda.test_all_devices import (
    DEVICES,
    check_device,
    classifiers,
    homes,
)
from tests.fake_cuda.test_all_devices import (
    GPU as GPU,
)
from tests.fake_cuda.test_all_devices import (
    SETTINGS as SETTINGS,
)
from tests.fake_cuda.test_all_devices import (
    all_joined as all_joined,
)

FOREVER = 10_000_000
PAUSE_S = 2.0  # on a busy machine; measured: 0.07
LOST = 1  # the device
TABLE = [[1.0, 2.0, 3.0]]


def lose(gpu_server: GpuServer) -> None:
    """From now on, every process that uses the device fails."""
    gpu_server.machine.inject("call", ASSERT, count=FOREVER, device=LOST)


def recovered(gpu_server: GpuServer) -> None:
    gpu_server.machine.heal()
    gpu_server.joined(DEVICES)


@contextmanager
def asked(gpu_server: GpuServer, artifact: Path) -> Iterator[Future[list[tuple[int, float]]]]:
    """Status and seconds of the requests for the model during the block, one after another."""
    stop = threading.Event()

    def ask() -> list[tuple[int, float]]:
        found = []
        while not stop.is_set():
            began = time.monotonic()
            status = gpu_server.status(artifact.name)
            found.append((status, time.monotonic() - began))
        return found

    with ThreadPoolExecutor(1) as pool:
        try:
            yield pool.submit(ask)
        finally:
            stop.set()


def check_neighbour(asking: Future[list[tuple[int, float]]]) -> None:
    """Assert that each request was answered, without a pause."""
    assert {status for status, _ in asking.result()} == {200}
    assert max(seconds for _, seconds in asking.result()) < PAUSE_S


def test_a_device_lost_for_good(gpu_server: GpuServer, models: Models) -> None:
    """Its models are opened on the other device, which has room for one and demotes others for the rest."""
    artifacts = classifiers(models, 4)
    gpu_server.load(artifacts)
    staying, moving = (homes(gpu_server, artifacts)[device] for device in (1 - LOST, LOST))
    with asked(gpu_server, staying[0]) as asking:
        lose(gpu_server)
        for artifact in moving:
            gpu_server.erase(artifact)
            gpu_server.served(artifact.name)
            assert gpu_server.client.ping().status_code == 200
            assert 1 - LOST in gpu_server.devices_of(artifact, DEVICES)
        for artifact in [*artifacts, *artifacts]:
            assert gpu_server.status(artifact.name) == 200
            assert gpu_server.client.ping().status_code == 200
    check_neighbour(asking)
    until(
        lambda: gpu_server.reserved_on(LOST) == 0
    )  # once no start of its worker is awaited any more
    assert gpu_server.client.names() == {artifact.name for artifact in artifacts}
    assert gpu_server.reserved_on(1 - LOST) <= 40 * MIB
    recovered(gpu_server)
    new = models.classifier(5)
    gpu_server.load([new])
    assert LOST in gpu_server.devices_of(new, DEVICES)


def test_the_first_request_for_a_model_of_a_lost_device(
    gpu_server: GpuServer, models: Models
) -> None:
    """Nobody else asks: it is opened elsewhere when the device's next worker does not start."""
    artifacts = classifiers(models, 2)
    gpu_server.load(artifacts)
    (moving,) = homes(gpu_server, artifacts)[LOST]
    lose(gpu_server)
    for worker in gpu_server.workers(LOST):
        worker.end()
    statuses: list[int] = []
    while not statuses or statuses[-1] != 200:
        statuses.append(gpu_server.status(moving.name))
    assert set(statuses[:-1]) <= {503}
    assert len(statuses) <= 2
    recovered(gpu_server)


def test_loads_while_a_device_is_lost(gpu_server: GpuServer, models: Models) -> None:
    """They go to the other device; 507 once it and main memory are full."""
    gpu_server.load(classifiers(models, 2))
    lose(gpu_server)
    for artifact in classifiers(models, 2):
        gpu_server.served(artifact.name)
    *artifacts, last = classifiers(models, 9)
    began = time.monotonic()
    gpu_server.load(artifacts[2:])
    assert gpu_server.client.load(last.name, last).status_code == 507
    assert time.monotonic() - began < 10 * PAUSE_S
    for artifact in artifacts:
        assert gpu_server.status(artifact.name) == 200
    recovered(gpu_server)


def test_a_killed_worker(gpu_server: GpuServer, models: Models) -> None:
    """Only its own batches fail, and its models come back where they were."""
    artifacts = classifiers(models, 6)
    gpu_server.load(artifacts)
    before = homes(gpu_server, artifacts)
    with asked(gpu_server, before[1 - LOST][0]) as asking:
        gpu_server.workers(LOST)[0].end()
        until(lambda: gpu_server.reserved_on(LOST) == 0)
        until(lambda: gpu_server.reserved_on(LOST) >= sum(map(nbytes, before[LOST])))
    check_neighbour(asking)
    for device, held in before.items():
        check_device(gpu_server, device, held)
        assert all(device in gpu_server.devices_of(each, DEVICES) for each in held)
        assert {gpu_server.status(each.name) for each in held} == {200}


def test_a_worker_killed_again_and_again(gpu_server: GpuServer, models: Models) -> None:
    """Its models are served in between, on whichever device."""
    artifacts = classifiers(models, 6)
    gpu_server.load(artifacts)
    with asked(gpu_server, homes(gpu_server, artifacts)[1 - LOST][0]) as asking:
        for _ in range(3):
            until(lambda: gpu_server.workers(LOST))[0].end()
            for artifact in artifacts:
                gpu_server.served(artifact.name)
    check_neighbour(asking)
    gpu_server.joined(DEVICES)
    assert {gpu_server.status(each.name) for each in artifacts} == {200}
