"""What the scheduler sends to a worker, what it makes of the result, and when it gives up waiting."""

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest

from model_handler.engine.admission import QueueBounds
from model_handler.engine.placement import SLOW_S
from model_handler.errors import EngineError, HandlerRefusal, InvalidRequest, WorkerDied
from model_handler.messages import Done, InferenceResponse, Refusal, Run
from model_handler.model import State
from tests.model_handler.engine.several_workers import SIZES, model
from tests.model_handler.engine.test_injected_failures import (
    DEADLINE_S,
    NEIGHBOUR,
    SUSPECT,
    Bench,
    Injection,
    found,
)
from tests.model_handler.own_errors import OwnErrors

GRACE_S = 30.0
OTHER, DELAY_S = 3, 0.25
ANSWER = InferenceResponse(b"1", "text/plain")


class Commanding(Bench):
    """Records what the workers are sent, and which are replaced. `results`: of the next batches."""

    def __init__(self) -> None:
        super().__init__()
        self.own_errors = OwnErrors()
        self.commands: list[Run] = []
        self.replaced: list[tuple[str, int]] = []
        self.results: Any = None
        for worker in self.workers.all:
            worker.replace = self.replace  # type: ignore[method-assign]
            self._record(worker)

    def _record(self, worker: Any) -> None:
        answering = worker.run

        async def run(command: Run) -> Done:
            self.commands.append(command)
            done: Done = await answering(command)
            return done if self.results is None else self.results(command)

        worker.run = run

    def replace(self, reason: str, culprit: int = 0) -> None:
        self.replaced.append((reason, culprit))

    def exchange(self, bounds: QueueBounds) -> None:
        """Load another model instead of the neighbour."""
        self.serve(self.loop.create_task(self.core.remove(self.models.pop(NEIGHBOUR), 0.0)))
        one = self.models[OTHER] = model(OTHER)
        load = self.loop.create_task(self.core.admit(one, bounds))
        self.serve(load)
        load.result()
        one.entry.become(State.READY)
        self.commands.clear()

    def after(self, seconds: float) -> None:
        self.loop.now += seconds
        self.loop.turns()

    def failed(self, task: "asyncio.Task[InferenceResponse]") -> EngineError:
        self.serve(task)
        error = task.exception()
        assert isinstance(error, EngineError)
        return error


@pytest.fixture
def bench() -> Iterator[Commanding]:
    bench = Commanding()
    yield bench
    bench.results = None
    bench.own_errors.close()
    bench.close()


def test_a_command_says_what_to_compute_and_until_when(bench: Commanding) -> None:
    tasks = bench.ask(SUSPECT, 1)
    bench.after(0.0)
    bench.loop.now += 5.0
    tasks += bench.ask(SUSPECT, 3)
    bench.after(0.0)
    first, second = bench.commands[:2]
    assert (first.model_id, second.model_id) == (SUSPECT, SUSPECT)
    assert second.batch_id == first.batch_id + 1
    assert [request.body for request in first.requests] == [b"0"]
    assert [request.body for request in second.requests] == [b"0", b"1"]
    assert (first.timeout_s, second.timeout_s) == (DEADLINE_S, DEADLINE_S)
    assert (first.threads, second.threads) == (2, 2)  # both cores are free
    bench.serve(*tasks)
    assert not bench.own_errors.found


def test_a_batch_has_as_long_as_its_last_request(bench: Commanding) -> None:
    """One that waited for a free slot has less time left."""
    tasks = bench.ask(SUSPECT, 6)
    bench.after(0.0)
    bench.loop.now += 5.0
    bench.workers.all[0].let_go(0)
    bench.after(0.0)
    assert bench.commands[-1].timeout_s == DEADLINE_S - 5.0
    bench.serve(*tasks)


def test_a_worker_whose_batch_never_ends_is_replaced_after_its_grace(bench: Commanding) -> None:
    (task,) = bench.ask(SUSPECT, 1)
    bench.after(0.0)
    bench.after(DEADLINE_S + GRACE_S - 0.01)
    assert bench.replaced == []
    bench.after(0.01)
    assert bench.replaced == [("a batch never ended", SUSPECT)]
    bench.serve(task)
    bench.after(1000.0)
    assert len(bench.replaced) == 1


def test_a_worker_whose_batches_ended_is_left_alone(bench: Commanding) -> None:
    bench.serve(*bench.ask(SUSPECT, 3))
    bench.after(DEADLINE_S + GRACE_S + 1.0)
    assert bench.replaced == []


@pytest.mark.parametrize("count", [0, 1, 3])
def test_a_worker_that_returns_another_number_of_results_is_replaced(
    bench: Commanding, count: int
) -> None:
    bench.results = lambda command: Done(command.batch_id, [ANSWER] * count, 0.0, 0.0)
    tasks = bench.ask(SUSPECT, 2)
    errors = [bench.failed(task) for task in tasks]
    assert {str(error) for error in errors} == {"the worker returned the wrong number of results"}
    assert all(isinstance(error, WorkerDied) for error in errors)
    assert bench.replaced == [("a batch came back with the wrong number of results", 0)]


@pytest.mark.parametrize(
    ("refusal", "kind", "status"),
    [
        (Refusal("InvalidRequest", "no text"), InvalidRequest, None),
        (Refusal("HandlerRefusal", "a teapot", 418), HandlerRefusal, 418),
    ],
)
def test_a_refusal_reaches_its_request_only(
    bench: Commanding, refusal: Refusal, kind: type[EngineError], status: int | None
) -> None:
    bench.results = lambda command: Done(command.batch_id, [refusal, ANSWER], 0.0, 0.0)
    refused, answered = bench.ask(SUSPECT, 2)
    bench.serve(refused, answered)
    error = refused.exception()
    assert isinstance(error, kind)
    assert str(error) == refusal.message
    assert status is None or getattr(error, "status", None) == status
    assert answered.result() == ANSWER


@pytest.mark.parametrize(("held", "main"), [(50, 0), (0, 50), (50, 7)])
def test_memory_that_a_batch_reports_is_counted(bench: Commanding, held: int, main: int) -> None:
    """At least what the load needed; main memory only beside a GPU."""
    (residency,) = bench.core.residencies.values()
    before = residency.device.reserved
    bench.results = lambda command: Done(
        command.batch_id, [ANSWER], 0.0, 0.0, held_nbytes=held, held_main_nbytes=main
    )
    bench.serve(*bench.ask(SUSPECT, 1))
    grown = max(0, held - SIZES[SUSPECT])
    assert residency.device.reserved == before + grown
    assert not bench.own_errors.found


def test_a_worker_whose_batches_take_long_gets_those_of_another_model(bench: Commanding) -> None:
    """It prepares them meanwhile; afterwards it gets as many as before."""
    worker = bench.workers.all[0]
    bench.workers.all[1].running = False
    bench.exchange(QueueBounds(20, 2))
    slow = bench.ask(SUSPECT, 4)
    bench.after(0.0)
    slow += bench.ask(OTHER, 1)
    bench.after(SLOW_S * 0.99)
    assert [call.model_id for call in worker.calls] == [SUSPECT, SUSPECT]
    bench.after(SLOW_S * 0.02)
    assert [call.model_id for call in worker.calls] == [SUSPECT, SUSPECT, OTHER]
    bench.serve(*slow)
    slots = [
        each for main in bench.core.mains() for queue in main.work_queues for each in queue.slots
    ]
    assert {each.depth for each in slots} == {2}
    assert not bench.own_errors.found


# ---- our own errors ----


@pytest.mark.parametrize("step", ["soonest", "RunningBatch.take", "Run"])
def test_requests_are_told_which_error_of_ours_ended_them(
    bench: Commanding, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    path = f"model_handler.engine.scheduler.{step}"
    with monkeypatch.context() as patch:
        patch.setattr(path, Injection(found(path), {1}, OverflowError("int too large")))
        tasks = bench.ask(SUSPECT, 3)
        bench.serve(*tasks)
    failed = [error for task in tasks if (error := task.exception()) is not None]
    assert len(failed) == (2 if step == "Run" else 3)
    assert {str(error) for error in failed} == {"internal error: OverflowError"}
    (noticed,) = bench.own_errors.found
    assert "OverflowError" in noticed


# ---- batches that wait for more requests ----


@pytest.fixture
def delayed(bench: Commanding) -> Commanding:
    bench.exchange(QueueBounds(20, 2, delay_s=DELAY_S))
    return bench


def test_a_batch_that_is_not_full_waits(delayed: Commanding) -> None:
    for _ in range(2):
        tasks = delayed.ask(OTHER, 1)
        delayed.after(0.0)
        delayed.after(DELAY_S - 0.001)
        assert delayed.commands == []
        delayed.after(0.001)
        assert len(delayed.commands) == 1
        delayed.serve(*tasks)
        delayed.commands.clear()


def test_a_full_batch_does_not_wait(delayed: Commanding) -> None:
    tasks = delayed.ask(OTHER, 3)
    delayed.after(0.0)
    assert [len(command.requests) for command in delayed.commands] == [2]
    delayed.after(DELAY_S - 0.001)
    assert len(delayed.commands) == 1
    delayed.after(0.001)
    assert [len(command.requests) for command in delayed.commands] == [2, 1]
    delayed.serve(*tasks)


def test_a_second_request_does_not_make_the_first_one_wait_longer(delayed: Commanding) -> None:
    tasks = delayed.ask(OTHER, 1)
    delayed.after(0.0)
    tasks[0].cancel()
    delayed.after(DELAY_S / 2)
    tasks += delayed.ask(OTHER, 1)
    delayed.after(0.0)
    delayed.after(DELAY_S / 2)
    assert delayed.commands == []
    delayed.after(DELAY_S / 2)
    assert len(delayed.commands) == 1
    delayed.serve(tasks[1])
