"""An error at any step of a batch: its requests are answered, the others are right, and nothing is kept."""

import asyncio
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from model_handler.engine.admission import QueueBounds
from model_handler.engine.queues import Job
from model_handler.errors import EngineError
from model_handler.messages import Done, InferenceRequest, InferenceResponse, Run
from model_handler.model import Model, State
from tests.model_handler import ledger
from tests.model_handler.engine.several_workers import Workers, model
from tests.model_handler.fake_worker import FakeWorker
from tests.model_handler.virtual_time import VirtualLoop

SUSPECT, NEIGHBOUR = 1, 2
DEADLINE_S = 60.0
ENGINE = "model_handler.engine"
STEPS = {
    "metrics": "prometheus_client.Histogram.observe",
    "lease": "model_handler.memory.lease.Residence.lease",
    "count of uses": "model_handler.memory.lease.Residences.count_use",
    "requests taken": f"{ENGINE}.queues.RequestQueue.take",
    "cores granted": f"{ENGINE}.queues.Cores.grant",
    "free cores": f"{ENGINE}.queues.Cores.has_one_for",
    "charge": "model_handler.sharing.fairness.Shares.charge",
    "threads": f"{ENGINE}.scheduler.wide_threads",
    "share of the queue": f"{ENGINE}.scheduler.share_of_queue",
    "choice of the replica": f"{ENGINE}.scheduler.soonest",
    "command": f"{ENGINE}.scheduler.Run",
    "estimates": f"{ENGINE}.queues.ModelQueue.computed",
    "answers": f"{ENGINE}.scheduler._deliver",
    "delays": f"{ENGINE}.replicas.Replicas.note_start",
    "further workers": f"{ENGINE}.replicas.idle_elsewhere",
    "time to open": f"{ENGINE}.replicas.opening_s",
    "task": "asyncio.create_task",
    "worker": "tests.model_handler.fake_supervisor.ProcessSupervisor.run",
}
# Steps that are taken only while another worker is idle
ALONE = "share of the queue", "further workers", "time to open"
ERRORS = [OverflowError("int too large"), asyncio.CancelledError(), MemoryError(), GeneratorExit()]


class Bench:
    """Two models on two CPU workers, which answer at once when `serve` is called."""

    def __init__(self) -> None:
        self.loop = VirtualLoop()
        self.escaped: list[dict[str, Any]] = []
        self.loop.set_exception_handler(lambda _, context: self.escaped.append(context))
        self.workers = Workers(("cpu", "cpu"), 2, None, lambda model, reason: None)
        self.core = self.workers.core
        self.loop.run_until_complete(self.workers.start_all())
        self.models = {key: self.loaded(key) for key in (SUSPECT, NEIGHBOUR)}
        for worker in self.workers.all:
            worker.forward_s = {SUSPECT: 0.02, NEIGHBOUR: 0.02}
        self.serve(*self.ask(SUSPECT, 4), *self.ask(NEIGHBOUR, 4))

    def loaded(self, key: int) -> Model:
        new = model(key)
        load = self.loop.create_task(self.core.admit(new, QueueBounds(20, 2)))
        self.serve(load)
        load.result()
        new.entry.become(State.READY)
        return new

    def serve(self, *tasks: "asyncio.Task[Any]") -> None:
        for _ in range(300):
            self.loop.turns()
            if all(task.done() for task in tasks):
                return
            self.loop.now += 0.02
            for worker in self.workers.busy:
                worker.let_go(0)
        raise AssertionError("a request waits for ever")

    def ask(self, key: int, count: int) -> "list[asyncio.Task[InferenceResponse]]":
        return [self.loop.create_task(self.invoke(key, number)) for number in range(count)]

    async def invoke(self, key: int, number: int) -> InferenceResponse:
        request = InferenceRequest(b"%d" % number, headers=((b"name", b"value"),))
        job = Job(request, self.loop.time() + DEADLINE_S, self.loop.create_future())
        return await self.core.scheduler.submit(self.models[key], job)

    def answers(self, key: int, tasks: "list[asyncio.Task[InferenceResponse]]") -> int:
        """The number of right answers; the others must be errors of the engine."""
        right = 0
        for number, task in enumerate(tasks):
            if (error := task.exception()) is None:
                assert task.result().body == b"%d:%d" % (key, number)
                right += 1
            else:
                assert isinstance(error, EngineError), error
        return right

    def nothing_is_kept(self) -> None:
        scheduler = self.core.scheduler
        for main in self.core.mains():
            for work_queue in main.work_queues:
                for slots in work_queue.slots:
                    assert (slots.in_flight, slots.load.in_flight, slots.load.threads) == (0, 0, [])
                    assert self.workers.cores.free_for(slots) == self.workers.cores.total
        for residency in self.core.residencies.values():
            assert not any(one.leases for one in ledger.replicas(residency))
        for model_queue in ledger.model_queues(scheduler):
            assert not model_queue.requests
            assert not model_queue.running
            assert not model_queue.computing
            assert not model_queue.waiting_for_memory
            assert model_queue.empty.is_set()
        assert ledger.queued_nbytes(scheduler) == scheduler.waiting() == scheduler.running() == 0

    def close(self) -> None:
        for one in self.models.values():
            self.serve(self.loop.create_task(self.core.remove(one, 0.0)))
        for residency in self.core.residencies.values():
            assert residency.device.reserved == 0
            assert not ledger.replicas(residency)
        self.loop.run_until_complete(self.core.stop())
        self.loop.turns()
        self.loop.close()


@pytest.fixture
def bench() -> Iterator[Bench]:
    bench = Bench()
    yield bench
    bench.close()


class Injection:
    """Raises at some calls of a function, which otherwise does what it does."""

    def __init__(self, original: Callable[..., Any], calls: set[int], error: BaseException) -> None:
        self.made = self.raised = 0
        self._original = original
        self._calls = calls
        self._error = error

    def __call__(self, *arguments: Any, **named: Any) -> Any:
        self.made += 1
        if self.made in self._calls:
            self.raised += 1
            raise self._error
        return self._original(*arguments, **named)

    def __get__(self, instance: Any, owner: type) -> Callable[..., Any]:
        return lambda *arguments, **named: self(instance, *arguments, **named)


def found(path: str) -> Any:
    """The function at a dotted path."""
    parts = path.split(".")
    for length in range(len(parts) - 1, 0, -1):
        try:
            thing: Any = __import__(".".join(parts[:length]), fromlist=["_"])
        except ImportError:
            continue
        for part in parts[length:]:
            thing = getattr(thing, part)
        return thing
    raise AssertionError(path)


@pytest.mark.parametrize("calls", [{1}, {2}, {3, 4}, set(range(1, 9))], ids=str)
@pytest.mark.parametrize("step", STEPS)
def test_a_step_that_raises(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, step: str, calls: set[int]
) -> None:
    error = ERRORS[len(step + str(calls)) % len(ERRORS)]
    injection = Injection(found(STEPS[step]), calls, error)
    with monkeypatch.context() as patch:
        patch.setattr(STEPS[step], injection)
        requests = {SUSPECT: bench.ask(SUSPECT, 12)}
        if step not in ALONE:
            requests[NEIGHBOUR] = bench.ask(NEIGHBOUR, 6)
        bench.serve(*(task for tasks in requests.values() for task in tasks))
    assert injection.raised or 1 not in calls, "this step was not taken"
    bench.loop.turns()
    right = sum(bench.answers(key, tasks) for key, tasks in requests.items())
    assert right >= 6 * len(requests) - 6 * max(1, injection.raised)
    bench.nothing_is_kept()
    assert not [each for each in bench.escaped if each.get("exception") is not error]
    for key in (SUSPECT, NEIGHBOUR):
        again = bench.ask(key, 3)
        bench.serve(*again)
        assert bench.answers(key, again) == 3
    bench.nothing_is_kept()


# ---- what a worker may return ----


def raising(error: BaseException) -> Callable[[Run], Any]:
    def run(command: Run) -> Any:
        raise error

    return run


def future(outcome: BaseException | Done | None) -> Callable[[Run], Any]:
    def run(command: Run) -> Any:
        answer: asyncio.Future[Done] = asyncio.get_running_loop().create_future()
        if outcome is None:
            answer.cancel()
        elif isinstance(outcome, Done):
            answer.set_result(outcome)
        else:
            answer.set_exception(outcome)
        return answer

    return run


OUTCOMES: dict[str, Callable[[Run], Any]] = {
    "raises": raising(TypeError()),
    "raises no Exception": raising(GeneratorExit()),
    "raises that memory ran out": raising(MemoryError()),
    "a future that fails": future(KeyError("thread")),
    "a future that fails with no Exception": future(GeneratorExit()),
    "a future that was cancelled": future(None),
    "too few results": future(Done(1, [], 0.0, 0.0)),
    "too many results": future(Done(1, [InferenceResponse(b"", "")] * 99, 0.0, 0.0)),
    "no future": lambda command: None,
    "results of another type": future(Done(1, [None, None], 0.0, 0.0)),  # type: ignore[list-item]
}


@pytest.mark.parametrize("outcome", OUTCOMES)
def test_a_batch_that_goes_wrong(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, outcome: str
) -> None:
    answering = FakeWorker.run

    def run(self: FakeWorker, command: Run) -> Any:
        if command.model_id == SUSPECT:
            return OUTCOMES[outcome](command)
        return answering(self, command)

    with monkeypatch.context() as patch:
        for worker in bench.workers.all:
            patch.setattr(worker, "run", run.__get__(worker))
        requests = {key: bench.ask(key, 6) for key in (SUSPECT, NEIGHBOUR)}
        bench.serve(*requests[SUSPECT], *requests[NEIGHBOUR])
    bench.loop.turns()
    assert bench.answers(NEIGHBOUR, requests[NEIGHBOUR]) == 6
    for task in requests[SUSPECT]:
        assert task.exception() is None or isinstance(task.exception(), EngineError)
    bench.nothing_is_kept()
    again = bench.ask(SUSPECT, 3)
    bench.serve(*again)
    assert bench.answers(SUSPECT, again) == 3


def test_bytes_are_counted_as_long_as_a_batch_holds_them(bench: Bench) -> None:
    """The client may be gone by then."""
    scheduler = bench.core.scheduler
    tasks = bench.ask(SUSPECT, 5)
    bench.loop.turns()
    each = len(b"0") + len(b"name") + len(b"value")
    assert ledger.queued_nbytes(scheduler) == 5 * each
    in_batches = sum(len(one.computing) for one in ledger.model_queues(scheduler))
    for task in tasks:
        task.cancel()
    bench.loop.turns()
    assert ledger.queued_nbytes(scheduler) == in_batches * each > 0
    bench.serve(*tasks)
    while bench.workers.busy:
        bench.workers.busy[0].let_go(0)
        bench.loop.turns()
    bench.nothing_is_kept()
