"""What is restored after a process has ended: of isolated models, on two GPUs, and what is given up."""

import asyncio
from collections.abc import Iterator
from typing import Any, cast

import pytest

from model_handler.engine.admission import QueueBounds
from model_handler.engine.queues import Job
from model_handler.errors import EngineError, ModelLoadFailed, Unavailable
from model_handler.memory.pools import MemoryPool, Tier
from model_handler.messages import InferenceRequest
from model_handler.model import Model, State
from model_handler.processes.isolated_process import IsolatedProcess
from tests.model_handler import ledger
from tests.model_handler.engine.several_workers import GRAPH, SIZES, Workers, model
from tests.model_handler.own_errors import OwnErrors
from tests.model_handler.virtual_time import VirtualLoop

FIRST, SECOND = "cuda:0", "cuda:1"


class Process:
    """An isolated process that has ended. `why` is known once the test says so."""

    def __init__(self, *models: Model) -> None:
        self.models = {one.model_id: one for one in models}
        self.backing_off = False
        self.why = asyncio.Event()

    async def failure(self) -> EngineError:
        await self.why.wait()
        return Unavailable("killed")


class Scene:
    """Two GPUs. The models of a Process are carried by main workers: only the recovery is under test."""

    def __init__(self) -> None:
        self.loop = VirtualLoop()
        self.mistakes: list[dict[str, Any]] = []
        self.loop.set_exception_handler(lambda _, context: self.mistakes.append(context))
        self.forgotten: list[tuple[str, str]] = []
        host = MemoryPool(Tier.HOST, 250)
        self.workers = Workers((FIRST, SECOND), 2, host, self.forget)
        self.core = self.workers.core
        self.loop.run_until_complete(self.workers.start_all())
        self.first, self.second = self.workers.all

    def forget(self, model: Model, reason: str) -> None:
        self.forgotten.append((model.info.name, reason))

    def go_on(self) -> None:
        """Until the workers have done all that they were asked for."""
        self.loop.turns()
        while busy := self.workers.busy:
            busy[0].let_go(0)
            self.loop.turns()

    def load(self, *keys: int) -> list[Model]:
        models = [model(key) for key in keys]
        for one in models:
            task = self.loop.create_task(self.core.admit(one, QueueBounds(5, 2)))
            self.go_on()
            self.loop.run_until_complete(self.workers.start_all())
            self.go_on()
            task.result()
            one.entry.become(State.READY)
        return models

    def ask(self, one: Model) -> "asyncio.Task[Any]":
        job = Job(InferenceRequest(b"?"), self.loop.time() + 60, self.loop.create_future())
        task = self.loop.create_task(self.core.scheduler.submit(one, job))
        self.loop.turns()
        return task

    def end(self, process: Process, device: str = FIRST) -> None:
        for key in process.models:
            self.first.held.discard(key)
        lost = self.core.recovery.isolated_lost
        self.loop.call_soon(lost, device, cast("IsolatedProcess", process))
        self.loop.turns()

    def on_device(self, one: Model) -> bool:
        return self.core.residencies[FIRST].residence(one).tier is Tier.DEVICE


@pytest.fixture
def scene() -> Iterator[Scene]:
    scene, own_errors = Scene(), OwnErrors()
    yield scene
    own_errors.close()
    scene.loop.close()
    assert not scene.mistakes
    assert not own_errors.found


def test_models_of_a_process_come_back_once_it_is_known_why_it_ended(scene: Scene) -> None:
    one, neighbour = scene.load(1, 3)
    assert scene.first.held == {1}
    process = Process(one)
    scene.end(process)
    assert not scene.on_device(one)
    assert scene.workers.busy == []
    process.why.set()
    scene.go_on()
    assert scene.on_device(one)
    assert (scene.first.held, scene.second.held) == ({1}, {3})
    answer = scene.ask(neighbour)
    scene.go_on()
    assert answer.result().body == b"3:?"
    assert scene.forgotten == []


def test_requests_that_wait_for_the_process_are_answered(scene: Scene) -> None:
    (one,) = scene.load(1)
    process = Process(one)
    scene.end(process)
    answers = [scene.ask(one) for _ in range(3)]
    process.why.set()
    scene.go_on()
    assert [answer.result().body for answer in answers] == [b"1:?"] * 3


def test_after_many_deaths_the_next_request_is_the_next_attempt(scene: Scene) -> None:
    (one,) = scene.load(1)
    process = Process(one)
    process.backing_off = True
    process.why.set()
    scene.end(process)
    scene.go_on()
    assert not scene.on_device(one)
    answer = scene.ask(one)
    scene.go_on()
    assert answer.result().body == b"1:?"


def test_a_model_that_is_being_unloaded_does_not_come_back(scene: Scene) -> None:
    one, other = scene.load(1, 4)
    one.entry.become(State.UNLOADING)
    process = Process(one)
    process.why.set()
    scene.end(process)
    scene.go_on()
    assert not scene.on_device(one)
    assert other.ready


def test_a_model_that_cannot_come_back_is_kept_for_its_next_request(scene: Scene) -> None:
    (one,) = scene.load(1)
    scene.first.load_error = ModelLoadFailed("the file has gone")
    process = Process(one)
    process.why.set()
    scene.end(process)
    scene.go_on()
    assert not scene.on_device(one)
    assert scene.forgotten == []
    scene.first.load_error = None
    answer = scene.ask(one)
    scene.go_on()
    assert answer.result().body == b"1:?"


def test_a_death_is_counted(scene: Scene) -> None:
    (one,) = scene.load(1)
    for count in (1.0, 2.0):
        scene.end(Process(one))
        (metric,) = scene.workers.metrics.worker_restarts.collect()
        assert metric.samples[0].value == count


def test_a_stop_ends_what_is_being_restored(scene: Scene) -> None:
    (one,) = scene.load(1)
    process = Process(one)
    scene.end(process)
    scene.loop.call_soon(scene.core.recovery.stop)
    scene.loop.turns()
    process.why.set()
    scene.go_on()
    assert not scene.on_device(one)


# ---- devices that are lost for good ----


def sick(scene: Scene, *workers: int) -> None:
    """The workers end, and starts of further ones fail."""
    for number in workers:
        worker = scene.workers.all[number]
        worker.failing = True
        worker.sickness = lambda: "it does not start"  # type: ignore[method-assign]
        scene.loop.call_soon(worker.die)
        scene.loop.turns()


def test_models_of_a_lost_device_are_opened_on_the_other_one(scene: Scene) -> None:
    (one,) = scene.load(1)
    sick(scene, 0)
    assert scene.forgotten == []
    answer = scene.ask(one)
    scene.go_on()
    assert answer.result().body == b"1:?"
    assert scene.second.held == {1}


def test_models_in_a_lost_process_for_graphs_are_given_up(scene: Scene) -> None:
    """The platform loads them again, on the other device."""
    scene.load(1, GRAPH)
    device = next(name for name, each in scene.core.residencies.items() if len(each.models()) == 1)
    graphs = scene.workers.all[2]
    assert graphs.held == {GRAPH}
    main = 0 if graphs.device == FIRST else 1
    sick(scene, main)
    assert scene.forgotten == []
    sick(scene, 2)
    assert scene.forgotten == [(str(GRAPH), "its device was lost")]
    assert device


def test_nothing_is_given_up_while_all_devices_are_lost(scene: Scene) -> None:
    """No other device could load the models: the container is replaced, or the devices come back."""
    scene.load(1, GRAPH)
    sick(scene, 0, 1, 2)
    assert scene.forgotten == []


def test_a_model_that_cannot_be_restored_is_given_up(scene: Scene) -> None:
    (one,) = scene.load(1)
    scene.first.load_error = ModelLoadFailed("the file has gone")
    scene.loop.call_soon(scene.first.die)
    scene.loop.turns()
    scene.loop.call_soon(scene.first.arrive)
    scene.go_on()
    assert scene.forgotten == [("1", "the file has gone")]
    assert one.ready


def test_a_restore_goes_on_after_a_model_that_has_no_room(scene: Scene) -> None:
    """The latest used first; what does not fit waits for its next request."""
    models = scene.load(1, 3, 2)
    home = scene.core.residencies[FIRST].models()
    assert len(home) == 2
    for one in (home[1], home[0]):
        answer = scene.ask(one)
        scene.go_on()
        answer.result()
    sizes = dict(SIZES)
    scene.first.nbytes = lambda one: 1000 if one is home[0] else sizes[one.model_id]
    scene.loop.call_soon(scene.first.die)
    scene.loop.turns()
    scene.loop.call_soon(scene.first.arrive)
    scene.go_on()
    assert scene.first.held == {home[1].model_id}
    assert scene.forgotten == []
    assert all(one.ready for one in models)


def test_a_restore_waits_for_the_next_worker_when_this_one_ends(scene: Scene) -> None:
    one, two = scene.load(1, 3)
    assert one.worker != two.worker
    for _ in range(3):
        scene.loop.call_soon(scene.first.die)
        scene.loop.turns()
        scene.loop.call_soon(scene.first.arrive)
        scene.loop.turns()
        assert [(call.kind, call.model_id) for call in scene.first.calls] == [("load", 1)]
    scene.go_on()
    assert scene.first.held == {1}
    assert ledger.replicas(scene.core.residencies[FIRST])[0].tier is Tier.DEVICE
