"""What is left of a model when its process dies, runs out of memory, or is unloaded."""

import asyncio

import pytest

from model_handler.errors import (
    EngineError,
    InsufficientMemory,
    ModelLoadFailed,
    WorkerDied,
)
from model_handler.memory.pools import Footprint, Tier
from model_handler.memory.room import LEARNED_SHARE
from tests.model_handler.engine.test_scheduling import CAPACITY, ON_CPU, SIZES, model
from tests.model_handler.memory.conftest import HOST, Build, Scene


def test_a_model_whose_process_died_while_it_was_loaded_is_not_there(scene: Scene) -> None:
    """The load may have been answered before the death was noticed."""
    (one,) = scene.load(1)
    scene.lose(one)
    returning = scene.start(scene.residency.promote(one))
    scene.worker.let_go(0)
    scene.residency.lost([one])
    scene.finish(asyncio.sleep(0))
    error = returning.exception()
    assert isinstance(error, WorkerDied)
    assert "ended before the model could be used" in str(error)
    assert scene.residency.residence(one).tier is not Tier.DEVICE
    scene.worker.die()
    assert scene.finish(scene.residency.promote(one)).exception() is None


def test_a_dead_worker_keeps_nothing_for_a_demoted_model(scene: Scene) -> None:
    small, _ = scene.load(4, 3)
    assert scene.worker.demoted == {4}
    scene.lose(*scene.residency.models())
    unload = scene.start(scene.residency.vacate(small))
    assert unload.done()
    assert scene.worker.calls == []


def test_a_living_worker_frees_what_it_kept_for_a_demoted_model(scene: Scene) -> None:
    small, _ = scene.load(4, 3)
    scene.start(scene.residency.vacate(small))
    assert [(call.kind, call.model_id) for call in scene.worker.calls] == [("unload", 4)]
    scene.finish(asyncio.sleep(0))
    assert scene.worker.demoted == set()


@pytest.mark.parametrize("host", [None, HOST])
def test_only_the_first_replica_comes_back_after_a_loss(build: Build, host: int | None) -> None:
    scene = build(host)
    (one,) = scene.load(1)
    one.worker = "a"
    twin = one.twin(1, "b")
    scene.worker.held.clear()  # the fake does not tell workers apart
    scene.worker.private_nbytes = 4
    scene.residency.enlist(twin, 4)
    scene.finish(scene.residency.promote(twin)).result()
    assert (scene.residency.open_in("a"), scene.residency.open_in("b")) == (1, 1)
    shared = 4 if host is None else SIZES[1]
    assert scene.device.reserved == SIZES[1] + shared
    stranger = model(3)
    scene.lose(stranger, twin, one)
    assert scene.residency.displaced() == [one]
    assert (scene.residency.open_in("a"), scene.residency.open_in("b")) == (0, 0)
    assert scene.device.reserved == (SIZES[1] if host is None else 0)
    scene.finish(scene.residency.promote(one)).result()
    assert scene.residency.displaced() == []


def test_the_latest_used_comes_back_first(scene: Scene) -> None:
    models = scene.load(1, ON_CPU)
    for each in (models[1], models[0], models[1]):
        scene.finish(scene.residency.acquire(each)).result().release()
    scene.residency.lost(models)
    assert scene.residency.displaced() == [models[1], models[0]]


def test_a_forward_without_memory_gets_what_an_idle_model_had(build: Build) -> None:
    scene = build(budget=200)
    scene.worker.free_nbytes = lambda: 120 - sum(SIZES[key] for key in scene.worker.held)
    large, small = scene.load(4, 1)
    assert scene.finish(scene.residency.relieve(small)).result() is True
    free = 120 - SIZES[4] - SIZES[1]
    held = SIZES[4] + SIZES[1]
    assert scene.device.limit == held + int(LEARNED_SHARE * free) - SIZES[4]
    assert not scene.residency.residence(large).leasable
    assert scene.finish(scene.residency.relieve(small)).result() is False


def test_a_measurement_of_main_memory_is_counted_beside_the_device(scene: Scene) -> None:
    isolated = model(2)
    scene.finish(scene.residency.admit(isolated, SIZES[2])).result()
    assert scene.residency.host is not None
    scene.residency.remeasure(isolated, Footprint(SIZES[2], 9))
    assert scene.residency.host.reserved == 9
    scene.finish(scene.residency.vacate(isolated)).result()
    assert (scene.residency.host.reserved, scene.device.reserved) == (0, 0)


def test_errors_of_the_engine_reach_the_claims_as_they_are(scene: Scene) -> None:
    (one,) = scene.load(1)
    scene.lose(one)
    for error in (InsufficientMemory("a"), WorkerDied("b"), ModelLoadFailed("c")):
        scene.worker.load_error = error
        refused: EngineError | BaseException | None = scene.finish(
            scene.residency.promote(one)
        ).exception()
        assert refused is error
        assert scene.device.reserved == 0


def test_a_model_that_dies_before_its_growth_is_counted_keeps_its_reservation(build: Build) -> None:
    scene = build(host=None)
    (one,) = scene.load(1)

    def dies() -> None:
        scene.residency.remeasure(one, Footprint(CAPACITY + 1))
        scene.residency.lost([one])

    scene.loop.call_soon(dies)
    scene.loop.turns()
    assert scene.device.reserved == SIZES[1]
    assert scene.worker.replaced == []


def test_where_main_memory_runs_out_no_replica_is_demoted_for_it(build: Build) -> None:
    """The operating system has no figure of what is free for one process."""
    scene = build(host=None)
    (one,) = scene.load(1)
    twin = one.twin(1, "b")
    scene.worker.held.clear()  # the fake does not tell workers apart
    scene.residency.enlist(twin, 4)
    scene.finish(scene.residency.promote(twin)).result()
    assert scene.finish(scene.residency.relieve(one)).result() is False
    assert scene.residency.residence(twin).leasable


def test_a_model_in_main_memory_demotes_nothing_on_the_device(scene: Scene) -> None:
    on_cpu, on_gpu = scene.load(ON_CPU, 1)
    assert scene.finish(scene.residency.relieve(on_cpu)).result() is False
    assert scene.residency.residence(on_gpu).leasable
