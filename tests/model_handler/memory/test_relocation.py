"""A model that gets another worker: its former worker frees it first, after the batches there."""

import asyncio
from collections.abc import Iterator

import pytest

from model_handler.errors import InsufficientMemory
from model_handler.memory.lease import Lease
from model_handler.memory.pools import Footprint, Tier
from model_handler.memory.residency import Residency
from model_handler.model import Model
from tests.model_handler.engine.test_scheduling import CAPACITY, SIZES, host_pool, model
from tests.model_handler.fake_worker import FakeWorker
from tests.model_handler.virtual_time import VirtualLoop

KEY, OTHER = 4, 3  # they do not fit together


class Recorder(FakeWorker):
    """Keeps in which worker each model was loaded and freed. `mistake`: raised by the next unload."""

    def __init__(self) -> None:
        super().__init__(lambda one: SIZES[one.model_id])
        self.log: list[tuple[str, str]] = []
        self.mistake: Exception | None = None

    async def load(self, model: Model) -> Footprint:
        self.log.append(("load", model.worker))
        return await super().load(model)

    async def unload(self, model: Model) -> int:
        self.log.append(("unload", model.worker))
        mistake, self.mistake = self.mistake, None
        if mistake is not None:
            raise mistake
        return await super().unload(model)


class Scene:
    """A model on the device of its worker, which is called `former`."""

    def __init__(self, host: int | None) -> None:
        self.loop = VirtualLoop()
        self.worker = Recorder()
        self.residency = Residency(self.worker, CAPACITY, host_pool(host))
        self.model = model(KEY)
        self.model.worker = "former"
        self.task = self.loop.create_task(self.residency.admit(self.model, SIZES[KEY]))
        self.go_on()
        self.worker.log.clear()

    def go_on(self) -> None:
        """Until the worker has done all that it was asked for."""
        self.loop.turns()
        while self.worker.calls:
            self.worker.let_go(0)
            self.loop.turns()

    def lease(self) -> Lease:
        return self.residency.residence(self.model).lease()

    def relocate(self) -> None:
        former = self.model.twin(0, self.model.worker)
        self.model.worker = "new"
        self.loop.call_soon(self.residency.relocate, self.model, former)
        self.loop.turns()

    def promote(self) -> "asyncio.Task[None]":
        task = self.loop.create_task(self.residency.promote(self.model))
        self.loop.turns()
        return task

    def vacate(self) -> None:
        self.loop.create_task(self.residency.vacate(self.model))
        self.go_on()


@pytest.fixture(params=[None, 250], ids=["cpu", "gpu"])
def scene(request: pytest.FixtureRequest) -> Iterator[Scene]:
    scene = Scene(request.param)
    yield scene
    scene.loop.close()


def test_the_former_worker_frees_it_after_its_batches_and_then_the_new_one_loads_it(
    scene: Scene,
) -> None:
    leases = [scene.lease(), scene.lease()]
    scene.relocate()
    residence = scene.residency.residence(scene.model)
    assert not residence.leasable
    returning = scene.promote()
    for lease in leases:
        assert scene.worker.log == []
        lease.release()
        scene.loop.turns()
    assert scene.worker.log == [("unload", "former")]
    assert residence.demotion is not None
    scene.go_on()
    assert scene.worker.log == [("unload", "former"), ("load", "new")]
    assert returning.done()
    assert residence.tier is Tier.DEVICE
    assert not residence.demotion
    assert scene.residency.device.reserved == SIZES[KEY]
    scene.vacate()
    assert scene.worker.log[2:] == [("unload", "new")]
    assert scene.residency.device.reserved == 0


def test_another_model_gets_its_memory_only_where_it_can_be_demoted(scene: Scene) -> None:
    scene.relocate()
    scene.go_on()
    on_gpu = scene.residency.host is not None
    assert scene.residency.device.reserved == (0 if on_gpu else SIZES[KEY])
    load = scene.loop.create_task(scene.residency.admit(model(OTHER), SIZES[OTHER]))
    scene.go_on()
    assert isinstance(load.exception(), InsufficientMemory) is not on_gpu
    scene.vacate()
    assert scene.residency.device.reserved == (SIZES[OTHER] if on_gpu else 0)


def test_its_own_load_finds_its_memory(scene: Scene) -> None:
    scene.relocate()
    scene.go_on()
    returning = scene.promote()
    scene.go_on()
    assert returning.exception() is None
    assert scene.residency.device.reserved == SIZES[KEY]


def test_nothing_is_kept_for_it_in_the_former_worker(scene: Scene) -> None:
    """An unload has nothing to free there, even if the model has been demoted before."""
    if scene.residency.host is not None:
        scene.loop.create_task(scene.residency.admit(model(OTHER), SIZES[OTHER]))
        scene.go_on()
        assert scene.worker.demoted == {KEY}
        scene.promote()
        scene.go_on()
        scene.worker.log.clear()
    scene.relocate()
    scene.go_on()
    scene.vacate()
    own = [] if scene.residency.host is not None else [("unload", "new")]
    assert scene.worker.log == [("unload", "former"), *own]


def test_it_is_loaded_even_if_its_former_worker_could_not_free_it(
    scene: Scene, caplog: pytest.LogCaptureFixture
) -> None:
    scene.worker.mistake = KeyError("thread")
    scene.relocate()
    scene.go_on()
    assert [record.message for record in caplog.records] == ["relocation failed"]
    scene.worker.held.clear()
    returning = scene.promote()
    scene.go_on()
    assert returning.exception() is None
    assert scene.residency.device.reserved == SIZES[KEY]


def test_a_load_in_progress_goes_on_in_the_new_worker(scene: Scene) -> None:
    """The worker was lost with the model: there is nothing to free."""
    scene.residency.lost([scene.model])
    scene.worker.die()
    returning = scene.promote()
    scene.relocate()
    scene.go_on()
    assert scene.worker.log == [("load", "former")]
    assert returning.exception() is None
