"""Admission of models, and claims to them, step by step."""

import asyncio

import pytest

from model_handler.errors import InsufficientMemory, ModelLoadFailed, ModelNotFound
from model_handler.memory.pools import Tier
from model_handler.memory.room import LEARNED_SHARE
from model_handler.model import Model
from tests.model_handler.engine.test_scheduling import CAPACITY, ON_CPU, SIZES, model
from tests.model_handler.memory.conftest import HOST, Build, Scene

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


def test_a_load_that_cannot_fit_measures_nothing(scene: Scene) -> None:
    """Only an out-of-memory error tells that the device has less than its budget."""
    scene.load(2)  # it is never demoted
    scene.worker.free_nbytes = lambda: 10
    refused = scene.finish(scene.residency.admit(model(5), SIZES[5]))
    assert isinstance(refused.exception(), InsufficientMemory)
    assert scene.device.limit == CAPACITY
