"""Admission, claims and losses of replicas, step by step."""

import asyncio
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from model_handler.errors import (
    EngineError,
    InsufficientMemory,
    ModelLoadFailed,
    ModelNotFound,
    WorkerDied,
)
from model_handler.memory.pools import Footprint, Tier
from model_handler.memory.residency import Residency
from model_handler.memory.room import LEARNED_SHARE
from model_handler.model import Model
from tests.model_handler.engine.test_scheduling import CAPACITY, ON_CPU, SIZES, host_pool, model
from tests.model_handler.fake_worker import FakeWorker
from tests.model_handler.virtual_time import VirtualLoop

HOST = 250


class Scene:
    def __init__(self, host: int | None, budget: int) -> None:
        self.loop = VirtualLoop()
        self.mistakes: list[dict[str, Any]] = []
        self.loop.set_exception_handler(lambda _, context: self.mistakes.append(context))
        self.worker = FakeWorker(lambda one: SIZES[one.model_id])
        self.residency = Residency(self.worker, budget, host_pool(host))
        self.device = self.residency.device

    def start(self, work: Any, turns: int = 40) -> "asyncio.Task[Any]":
        task = self.loop.create_task(work)
        self.loop.turns(turns)
        return task

    def finish(self, work: Any) -> "asyncio.Task[Any]":
        """Start it, and let the worker do all that it is asked for."""
        task = self.start(work)
        while self.worker.calls:
            self.worker.let_go(0)
            self.loop.turns()
        return task

    def step(self) -> None:
        """Run what is ready, but nothing that becomes ready by that."""
        self.loop.call_soon(self.loop.stop)
        self.loop.run_forever()

    def load(self, *keys: int) -> list[Model]:
        models = [model(key) for key in keys]
        for one in models:
            self.finish(self.residency.admit(one, SIZES[one.model_id])).result()
        return models

    def lose(self, *models: Model) -> None:
        self.residency.lost(models)
        self.worker.die()


Build = Callable[..., Scene]


@pytest.fixture
def build() -> Iterator[Build]:
    scenes: list[Scene] = []

    def build(host: int | None = HOST, budget: int = CAPACITY) -> Scene:
        scenes.append(Scene(host, budget))
        return scenes[-1]

    yield build
    for scene in scenes:
        scene.loop.close()
        assert not scene.mistakes
        assert not scene.worker.broken


@pytest.fixture
def scene(build: Build) -> Scene:
    return build()


# ---- admission ----


def test_a_model_as_large_as_the_device_replaces_all_others(scene: Scene) -> None:
    scene.load(1, 3)
    whole = model(5)
    scene.worker.nbytes = lambda _: CAPACITY
    scene.finish(scene.residency.admit(whole, CAPACITY)).result()
    assert scene.worker.held == {5}
    assert scene.device.reserved == CAPACITY


def test_a_model_that_just_fits_replaces_none(scene: Scene) -> None:
    scene.worker.nbytes = lambda one: (
        SIZES[one.model_id] if one.model_id == 4 else CAPACITY - SIZES[4]
    )
    scene.finish(scene.residency.admit(model(4), SIZES[4])).result()
    scene.finish(scene.residency.admit(model(1), CAPACITY - SIZES[4])).result()
    assert scene.worker.held == {1, 4}
    assert scene.device.free == 0


@pytest.mark.parametrize(("measured", "demoted"), [(-1, set()), (0, set()), (1, {4})])
def test_a_model_larger_than_estimated_gets_the_rest_from_others(
    scene: Scene, measured: int, demoted: set[int]
) -> None:
    """And only then: what it was estimated to need is free already."""
    estimate = CAPACITY - SIZES[4]
    scene.load(4)
    scene.worker.nbytes = lambda _: estimate + measured
    scene.finish(scene.residency.admit(model(1), estimate)).result()
    assert scene.worker.demoted == demoted
    kept = 0 if demoted else SIZES[4]
    assert scene.device.reserved == estimate + measured + kept


@pytest.mark.parametrize(("host", "refused"), [(SIZES[4], False), (SIZES[4] - 1, True)])
def test_a_new_model_demotes_others_if_main_memory_has_room_for_them(
    build: Build, host: int, refused: bool
) -> None:
    scene = build(host=host)
    scene.load(4)
    load = scene.finish(scene.residency.admit(model(5), SIZES[5]))
    assert (load.exception() is not None) is refused
    assert scene.worker.held == ({4} if refused else {5})
    if refused:
        assert f"{SIZES[4]} bytes of host memory needed" in str(load.exception())


def test_a_replica_that_makes_room_needs_no_main_memory(build: Build) -> None:
    """Its model is at home on another device."""
    scene = build(host=0)
    twin = model(1).twin(1, "b")
    scene.residency.enlist(twin, SIZES[1])
    scene.finish(scene.residency.promote(twin)).result()
    scene.finish(scene.residency.admit(model(5), SIZES[5])).result()
    assert scene.worker.held == {5}
    assert scene.residency.residence(twin).tier is Tier.DISK


@pytest.mark.parametrize(("key", "pool"), [(1, "device"), (ON_CPU, "host")])
def test_a_model_larger_than_its_memory_is_refused_before_anything_is_read(
    scene: Scene, key: int, pool: str
) -> None:
    budget = CAPACITY if pool == "device" else HOST
    refused = scene.start(scene.residency.admit(model(key), budget + 1))
    said = str(refused.exception())
    assert said == f"{budget + 1} bytes needed, more than all {budget} bytes of {pool} memory"
    assert scene.worker.calls == []
    assert scene.residency.models() == []


def test_without_a_gpu_all_models_share_one_memory(build: Build) -> None:
    scene = build(host=None)
    scene.load(ON_CPU, 1)
    assert scene.device.reserved == SIZES[ON_CPU] + SIZES[1]
    assert scene.residency.host is None


def test_a_replica_computes_in_the_memory_of_its_model(scene: Scene) -> None:
    on_cpu, on_gpu = scene.load(ON_CPU, 1)
    assert scene.residency.enlist(on_cpu.twin(1, ""), 5).home is scene.residency.host
    assert scene.residency.enlist(on_gpu.twin(1, ""), 5).home is scene.device


def test_a_load_that_ran_out_of_memory_makes_the_limit_what_was_measured(build: Build) -> None:
    """What is on the device, and a share of what is free; only a forward keeps more of it free."""
    scene = build(budget=200)
    scene.worker.free_nbytes = lambda: 120 - sum(SIZES[key] for key in scene.worker.held)
    scene.load(4, 3)
    scene.load(1)
    assert scene.worker.held == {1, 3}
    free = 120 - SIZES[4] - SIZES[3]
    assert scene.device.limit == SIZES[4] + SIZES[3] + int(LEARNED_SHARE * free)


def test_a_budget_is_what_is_known_until_memory_runs_out(build: Build) -> None:
    """A load that does not fit does not measure the device, which may be larger than its budget."""
    scene = build(budget=100)
    scene.worker.free_nbytes = lambda: 1000
    scene.load(5)
    scene.load(4)
    assert (scene.worker.held, scene.device.limit) == ({4}, 100)


# ---- claims ----


def test_all_claims_of_a_promotion_get_leases(scene: Scene) -> None:
    (one,) = scene.load(1)
    scene.lose(one)
    claims = [scene.start(scene.residency.acquire(one)) for _ in range(3)]
    assert [call.kind for call in scene.worker.calls] == ["load"]
    claims[1].cancel()
    scene.worker.let_go(0)
    scene.loop.turns()
    assert scene.residency.residence(one).leases == 2
    for claim in (claims[0], claims[2]):
        claim.result().release()
        claim.result().release()
    assert scene.residency.residence(one).leases == 0


def test_a_claim_that_is_given_up_just_when_it_is_granted_leaves_no_lease(scene: Scene) -> None:
    (one,) = scene.load(1)
    scene.lose(one)
    claim = scene.start(scene.residency.acquire(one))
    scene.worker.let_go(0)
    residence = scene.residency.residence(one)
    while not residence.leases:
        scene.step()
    claim.cancel()
    scene.loop.turns()
    assert claim.cancelled()
    assert residence.leases == 0


def test_a_claim_that_is_given_up_just_when_it_is_refused_ends_as_given_up(scene: Scene) -> None:
    (one,) = scene.load(1)
    scene.lose(one)
    claim = scene.start(scene.residency.acquire(one))
    scene.worker.load_error = ModelLoadFailed("the file has gone")
    scene.worker.let_go(0)
    while scene.residency.residence(one).promotion is not None:
        scene.step()
    claim.cancel()
    scene.loop.turns()
    assert claim.cancelled()


@pytest.mark.parametrize("kind", [KeyError, MemoryError])
def test_an_unexpected_error_of_a_promotion_is_named(scene: Scene, kind: type[Exception]) -> None:
    (one,) = scene.load(1)
    scene.lose(one)

    def mistake(_: Model) -> int:
        raise kind("thread")

    scene.worker.nbytes = mistake
    claims = [scene.loop.create_task(scene.residency.acquire(one)) for _ in range(2)]
    scene.finish(scene.residency.promote(one)).exception()
    for claim in claims:
        error = claim.exception()
        assert isinstance(error, ModelLoadFailed)
        assert str(error) == f"the model could not be moved: {kind.__name__}"
    scene.worker.nbytes = lambda one: SIZES[one.model_id]
    scene.worker.held.clear()
    assert scene.finish(scene.residency.promote(one)).exception() is None


def test_a_model_that_was_not_admitted_cannot_be_used(scene: Scene) -> None:
    for work in (scene.residency.acquire, scene.residency.promote):
        error = scene.start(work(model(1))).exception()
        assert isinstance(error, ModelNotFound)
        assert str(error) == "model '1' is not loaded"
    assert scene.start(scene.residency.relieve(model(1))).result() is False


def test_a_model_that_is_being_unloaded_gets_no_memory_and_no_lease(scene: Scene) -> None:
    (one, _) = scene.load(1, 3)
    lease = scene.residency.residence(one).lease()
    unload = scene.start(scene.residency.vacate(one))
    assert isinstance(scene.start(scene.residency.acquire(one)).exception(), ModelNotFound)
    assert scene.start(scene.residency.relieve(one)).result() is False
    assert not unload.done()
    lease.release()
    scene.finish(asyncio.sleep(0))
    assert unload.done()


def test_an_unload_ends_a_load_in_progress(scene: Scene) -> None:
    (one,) = scene.load(1)
    scene.lose(one)
    load = scene.start(scene.residency.promote(one))
    unload = scene.finish(scene.residency.vacate(one))
    assert isinstance(load.exception(), ModelNotFound)
    assert str(load.exception()) == "the model was unloaded"
    assert unload.exception() is None
    assert scene.device.reserved == 0


# ---- losses ----


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
