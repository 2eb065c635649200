"""Six models in room for three, asked by many at once: every request is answered and no byte is lost."""

import random
import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.fake_cuda.gpu import MIB
from tests.fake_cuda.house import ROUNDING_NBYTES, WORKSPACES_NBYTES, House
from tests.fake_cuda.models import Models

SETTINGS = {"MME_DEVICE_MEMORY": "40MiB"}  # for three models
COUNT, CLIENTS, REQUESTS, ROUNDS, MOVES = 6, 32, 10, 25, 40


@pytest.fixture
def artifacts(models: Models) -> list[Path]:
    return [models.classifier(seed) for seed in range(1, COUNT + 1)]


def test_many_clients(house: House, artifacts: list[Path]) -> None:
    """Each asks for models by a Zipf-like law. Nobody is refused: no queue is as long as they are many."""
    names = house.load(artifacts)
    weights = [1 / rank for rank in range(1, COUNT + 1)]

    def ask(client: int) -> Counter[int]:
        chosen = random.Random(client).choices(names, weights, k=REQUESTS)
        return Counter(house.status(name) for name in chosen)

    with ThreadPoolExecutor(CLIENTS) as pool:
        statuses = sum(pool.map(ask, range(CLIENTS)), Counter[int]())
    assert statuses == {200: CLIENTS * REQUESTS}
    check(house, artifacts)


def check(house: House, loaded: list[Path]) -> None:
    """Idle. The ledger has as many of these models as fit, and they are whole on the device, which holds no
    more than its budget and what PyTorch needs besides."""
    fit = min(len(loaded), 3)
    house.check_ledger(loaded[:fit])  # all are of one size
    assert sum(house.resident(artifact) for artifact in loaded) >= fit
    assert house.worker().held_nbytes() <= 40 * MIB + ROUNDING_NBYTES * fit + WORKSPACES_NBYTES


def test_a_random_walk(house: House, artifacts: list[Path]) -> None:
    """Loads, unloads and requests, forty at a time and a thousand in all, with a look at the books between.

    A request for a model that is loaded is served: it would be 404 if a model in use were demoted.
    """
    dice = random.Random(20261127)
    loaded: set[Path] = set()
    for _ in range(ROUNDS):
        steady = step(house, dice, loaded, artifacts)
        asked = dice.choices(sorted(steady), k=MOVES - 2) if steady else []
        with ThreadPoolExecutor(CLIENTS) as pool:
            statuses = list(pool.map(lambda artifact: house.status(artifact.name), asked))
        assert set(statuses) <= {200}
        assert house.client.names() == {artifact.name for artifact in loaded}
        assert house.reserved() <= 40 * MIB
    check(house, sorted(loaded))


def step(house: House, dice: random.Random, loaded: set[Path], artifacts: list[Path]) -> set[Path]:
    """Load or unload one or two models; those that stay as they were and are loaded."""
    before = set(loaded)
    for artifact in dice.sample(artifacts, 2):
        if artifact in loaded:
            assert house.client.unload(artifact.name).status_code == 200
            loaded.remove(artifact)
        elif len(loaded) < COUNT:
            house.load([artifact])
            loaded.add(artifact)
    return before & loaded


def test_unloads_while_others_are_promoted(house: House, artifacts: list[Path]) -> None:
    """Requests for a model that is being unloaded are answered 200, 404 or 503, its neighbours' all 200."""
    names = house.load(artifacts)
    leaving, staying = names[:2], names[2:]
    stop = threading.Event()

    def ask(client: int) -> Counter[tuple[bool, int]]:
        dice, found = random.Random(client), Counter[tuple[bool, int]]()
        while not stop.is_set():
            name = dice.choice(names)
            found[name in leaving, house.status(name)] += 1
        return found

    with ThreadPoolExecutor(8) as pool:
        asking = [pool.submit(ask, client) for client in range(8)]
        try:
            for _ in range(5):
                for name, artifact in zip(leaving, artifacts, strict=False):
                    assert house.client.unload(name).status_code == 200
                    assert house.client.load(name, artifact).status_code == 200
        finally:
            stop.set()
    found = sum((each.result() for each in asking), Counter[tuple[bool, int]]())
    assert {status for gone, status in found if not gone} == {200}
    assert {status for gone, status in found if gone} <= {200, 404, 503}
    assert house.client.names() == set(names)
    for name in staying:
        assert house.status(name) == 200
