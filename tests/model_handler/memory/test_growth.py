"""Memory that a model allocates in its own process: room is made for it, or the process is ended."""

from collections.abc import Iterator
from typing import Any

import pytest

from model_handler.errors import ModelNotFound
from model_handler.memory.pools import Footprint
from model_handler.memory.residency import Residency
from model_handler.model import Model
from tests.model_handler.engine.test_scheduling import ISOLATED, SIZES, host_pool, model
from tests.model_handler.fake_worker import FakeWorker
from tests.model_handler.virtual_time import VirtualLoop

BUDGET, HOST = 200, 120
OWN = SIZES[ISOLATED]


class Ending(FakeWorker):
    """Records which processes were ended, and why."""

    def __init__(self) -> None:
        super().__init__(lambda one: SIZES[one.model_id])
        self.ended: list[tuple[int, str]] = []

    def end(self, model: Model, reason: str) -> None:
        self.ended.append((model.model_id, reason))


class Scene:
    def __init__(self) -> None:
        self.loop = VirtualLoop()
        self.mistakes: list[dict[str, Any]] = []
        self.loop.set_exception_handler(lambda _, context: self.mistakes.append(context))
        self.worker = Ending()
        self.residency = Residency(self.worker, BUDGET, host_pool(HOST))
        assert self.residency.host is not None
        self.device, self.host = self.residency.device, self.residency.host

    def go_on(self) -> None:
        self.loop.turns()
        while self.worker.calls:
            self.worker.let_go(0)
            self.loop.turns()

    def load(self, *keys: int) -> None:
        for key in keys:
            task = self.loop.create_task(self.residency.admit(model(key), SIZES[key]))
            self.go_on()
            task.result()

    def grows(self, nbytes: int, main_nbytes: int, key: int = ISOLATED) -> None:
        footprint = Footprint(nbytes, main_nbytes)
        self.loop.call_soon(self.residency.remeasure, model(key), footprint)
        self.loop.turns()


@pytest.fixture
def scene() -> Iterator[Scene]:
    scene = Scene()
    scene.load(ISOLATED)
    yield scene
    assert not scene.mistakes
    scene.loop.close()


def test_what_fits_is_counted_at_once(scene: Scene) -> None:
    scene.grows(OWN + 5, 7)
    assert (scene.device.reserved, scene.host.reserved) == (OWN + 5, 7)
    scene.grows(OWN + 2, 3)
    assert (scene.device.reserved, scene.host.reserved) == (OWN + 2, 3)


def test_less_than_its_load_needed_is_not_counted(scene: Scene) -> None:
    """It may need as much for its next request."""
    scene.grows(OWN - 30, 0)
    assert scene.device.reserved == OWN


@pytest.mark.parametrize("key", [1, ISOLATED])
def test_a_report_of_a_model_that_is_not_there_means_nothing(scene: Scene, key: int) -> None:
    """The report comes late: the model was never loaded here, or its process has died."""
    scene.residency.lost([model(ISOLATED)])
    before = scene.device.reserved
    scene.grows(150, 10, key)
    assert (scene.device.reserved, scene.host.reserved) == (before, 0)
    assert not scene.worker.ended


def test_an_idle_model_makes_room(scene: Scene) -> None:
    scene.load(4, 3)
    scene.grows(OWN + 60, 0)
    scene.go_on()
    assert scene.worker.held == {ISOLATED, 3}
    assert scene.device.reserved == OWN + 60 + SIZES[3]
    assert not scene.worker.ended


def test_it_takes_all_that_there_is(scene: Scene) -> None:
    scene.load(4, 3)
    scene.grows(BUDGET, 0)
    scene.go_on()
    assert scene.worker.held == {ISOLATED}
    assert scene.device.reserved == BUDGET
    assert not scene.worker.ended


def test_the_process_ends_where_no_room_can_be_made(scene: Scene) -> None:
    scene.load(4)
    scene.grows(BUDGET + 1, 0)
    scene.go_on()
    reason = f"it grew to {BUDGET + 1} bytes: {BUDGET + 1 - OWN} bytes of device memory needed"
    ((key, said),) = scene.worker.ended
    assert key == ISOLATED
    assert said.startswith(reason)
    assert scene.worker.held == {ISOLATED, 4}
    assert scene.device.reserved == OWN + SIZES[4]


def test_a_model_that_is_unloaded_meanwhile_needs_no_room(scene: Scene) -> None:
    scene.load(4, 3)
    lease = scene.residency.residence(model(ISOLATED)).lease()
    busy = [scene.residency.residence(model(key)).lease() for key in (4, 3)]
    scene.grows(OWN + 60, 0)
    unload = scene.loop.create_task(scene.residency.vacate(model(ISOLATED)))
    scene.go_on()
    for each in (*busy, lease):
        each.release()
        scene.go_on()
    assert unload.done()
    assert not scene.worker.ended
    with pytest.raises(ModelNotFound, match="not loaded"):
        scene.loop.run_until_complete(scene.residency.acquire(model(ISOLATED)))
    assert scene.device.reserved == SIZES[4] + SIZES[3]


@pytest.mark.parametrize(
    ("main_nbytes", "left"), [(10, 110), (11, 50), (70, 50), (71, 0), (120, 0)]
)
def test_main_memory_comes_from_demoted_models_the_least_wanted_first(
    scene: Scene, main_nbytes: int, left: int
) -> None:
    """Two are demoted, of 50 and 60 bytes; a large model is wanted less. They are read from disk then."""
    scene.load(3, 1, 4, 5)
    assert scene.worker.demoted == {3, 4}
    scene.grows(OWN, main_nbytes)
    scene.go_on()
    assert scene.host.reserved == main_nbytes + left
    assert not scene.worker.ended
    assert scene.worker.held == {ISOLATED, 1, 5}


def test_the_process_ends_where_main_memory_is_full(scene: Scene) -> None:
    scene.grows(OWN, HOST + 1)
    scene.go_on()
    ((_, said),) = scene.worker.ended
    assert f"{HOST + 1} bytes of host memory needed" in said


def test_growth_waits_for_the_end_of_batches(scene: Scene) -> None:
    """A model that computes is demoted after its batch, and gets no further one before."""
    scene.load(4, 3)
    leases = [scene.residency.residence(model(key)).lease() for key in (4, 3)]
    scene.grows(OWN + 60, 0)
    assert not scene.residency.residence(model(4)).leasable
    assert scene.residency.residence(model(3)).leasable
    assert scene.worker.held == {ISOLATED, 3, 4}
    for lease in leases:
        lease.release()
        scene.go_on()
    assert scene.worker.held == {ISOLATED, 3}
    assert all(scene.residency.residence(model(key)).leases == 0 for key in (3, 4))
