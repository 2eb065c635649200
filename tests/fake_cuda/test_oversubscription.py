"""Six models and memory for three, under concurrent requests: no request fails and no memory leaks."""

import random
import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.fake_cuda.gpu import MIB
from tests.fake_cuda.gpu_server import ROUNDING_NBYTES, WORKSPACES_NBYTES, GpuServer
from tests.fake_cuda.models import Models

SETTINGS = {"MME_DEVICE_MEMORY": "40MiB"}  # for three models
COUNT, CLIENTS, REQUESTS, ROUNDS, MOVES = 6, 32, 10, 25, 40


@pytest.fixture
def artifacts(models: Models) -> list[Path]:
    return [models.classifier(seed) for seed in range(1, COUNT + 1)]


def test_many_clients(gpu_server: GpuServer, artifacts: list[Path]) -> None:
    """Each client chooses models by a Zipf-like law. No request is refused: the queues are long enough."""
    names = gpu_server.load(artifacts)
    weights = [1 / rank for rank in range(1, COUNT + 1)]

    def ask(client: int) -> Counter[int]:
        chosen = random.Random(client).choices(names, weights, k=REQUESTS)
        return Counter(gpu_server.status(name) for name in chosen)

    with ThreadPoolExecutor(CLIENTS) as pool:
        statuses = sum(pool.map(ask, range(CLIENTS)), Counter[int]())
    assert statuses == {200: CLIENTS * REQUESTS}
    check(gpu_server, artifacts)


def check(gpu_server: GpuServer, loaded: list[Path]) -> None:
    """Assert, on an idle server, that as many of these models as fit are reserved and complete on the
    device, which holds no more than its budget and PyTorch's workspaces."""
    fit = min(len(loaded), 3)
    gpu_server.check_ledger(loaded[:fit])  # all are of one size
    assert sum(gpu_server.resident(artifact) for artifact in loaded) >= fit
    assert gpu_server.worker().held_nbytes() <= 40 * MIB + ROUNDING_NBYTES * fit + WORKSPACES_NBYTES


def test_a_random_walk(gpu_server: GpuServer, artifacts: list[Path]) -> None:
    """A thousand loads, unloads and requests, forty at a time, with a check of the reserved bytes in between.

    Every request for a loaded model succeeds: it would be 404 if a model in use were demoted.
    """
    dice = random.Random(20261127)
    loaded: set[Path] = set()
    for _ in range(ROUNDS):
        steady = step(gpu_server, dice, loaded, artifacts)
        asked = dice.choices(sorted(steady), k=MOVES - 2) if steady else []
        with ThreadPoolExecutor(CLIENTS) as pool:
            statuses = list(pool.map(lambda artifact: gpu_server.status(artifact.name), asked))
        assert set(statuses) <= {200}
        assert gpu_server.client.names() == {artifact.name for artifact in loaded}
        assert gpu_server.reserved() <= 40 * MIB
    check(gpu_server, sorted(loaded))


def step(
    gpu_server: GpuServer, dice: random.Random, loaded: set[Path], artifacts: list[Path]
) -> set[Path]:
    """Load or unload one or two models. Returns the loaded models that did not change."""
    before = set(loaded)
    for artifact in dice.sample(artifacts, 2):
        if artifact in loaded:
            assert gpu_server.client.unload(artifact.name).status_code == 200
            loaded.remove(artifact)
        elif len(loaded) < COUNT:
            gpu_server.load([artifact])
            loaded.add(artifact)
    return before & loaded


def test_unloads_while_others_are_promoted(gpu_server: GpuServer, artifacts: list[Path]) -> None:
    """Requests for a model that is being unloaded get 200, 404 or 503; all others get 200."""
    names = gpu_server.load(artifacts)
    leaving, staying = names[:2], names[2:]
    stop = threading.Event()

    def ask(client: int) -> Counter[tuple[bool, int]]:
        dice, found = random.Random(client), Counter[tuple[bool, int]]()
        while not stop.is_set():
            name = dice.choice(names)
            found[name in leaving, gpu_server.status(name)] += 1
        return found

    with ThreadPoolExecutor(8) as pool:
        asking = [pool.submit(ask, client) for client in range(8)]
        try:
            for _ in range(5):
                for name, artifact in zip(leaving, artifacts, strict=False):
                    assert gpu_server.client.unload(name).status_code == 200
                    assert gpu_server.client.load(name, artifact).status_code == 200
        finally:
            stop.set()
    found = sum((each.result() for each in asking), Counter[tuple[bool, int]]())
    assert {status for gone, status in found if not gone} == {200}
    assert {status for gone, status in found if gone} <= {200, 404, 503}
    assert gpu_server.client.names() == set(names)
    for name in staying:
        assert gpu_server.status(name) == 200
