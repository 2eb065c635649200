"""What a batch takes and gives back, and what its model is charged and expected to take next."""

import asyncio
from typing import Any

import pytest

from model_handler.engine.queues import (
    HALF_LIFE_S,
    Job,
    ModelQueue,
    RunningBatch,
    WorkerLoad,
    fail,
)
from model_handler.errors import QueueFull, Unavailable
from model_handler.messages import InferenceRequest, InferenceResponse
from model_handler.sharing.cores import first_work_s, speedup
from tests.model_handler.engine.test_placement import LOOP, Scene

NOW = 10.0


def job(nbytes: int = 0) -> Job:
    answer: asyncio.Future[InferenceResponse] = asyncio.Future(loop=LOOP)
    return Job(InferenceRequest(b"x" * nbytes), 0.0, answer)


class Bench(Scene):
    """Two workers with four threads; `queue` is at home in the first and open in the second, too."""

    def __init__(self) -> None:
        super().__init__(2, cores=4)
        self.open_in(1)

    def taken(
        self, threads: int = 1, worker: int = 0, size: int = 2, now: float = NOW
    ) -> RunningBatch:
        batch = RunningBatch(self.queue, self.queue.replicas[worker])
        batch.take(size, threads, self.cores, now)
        return batch

    def counts(self) -> list[tuple[int, int, int, int, int]]:
        """Of each worker: the model's batches, all batches, leases, threads, and threads left for others."""
        return [
            (
                replica.running,
                replica.slots.in_flight,
                replica.slots.load.in_flight,
                replica.residence.leases,
                replica.slots.load.used,
            )
            for replica in self.queue.replicas
        ]


@pytest.fixture
def bench() -> Bench:
    bench = Bench()
    bench.queue.expected_s = 0.5
    bench.wait(5)
    return bench


def test_a_batch_gives_back_once_what_it_took(bench: Bench) -> None:
    nothing = bench.counts()
    jobs = list(bench.queue.requests)
    first, second = bench.taken(threads=2), bench.taken(threads=3)
    third = bench.taken(threads=1, worker=1)
    assert bench.counts() == [(2, 2, 2, 2, 3), (1, 1, 1, 1, 1)]
    assert [first.jobs, second.jobs, third.jobs] == [jobs[:2], jobs[2:4], jobs[4:]]
    assert bench.queue.computing == set(jobs)
    assert bench.queue.last is third.replica
    second.give_back()
    assert bench.counts() == [(1, 1, 1, 1, 2), (1, 1, 1, 1, 1)]
    assert bench.queue.computing == {*jobs[:2], *jobs[4:]}
    for batch in (second, first, third, first):
        batch.give_back()
    assert bench.counts() == nothing == [(0, 0, 0, 0, 0)] * 2
    assert bench.cores.free_for(bench.slots[0]) == 4
    assert not bench.queue.computing
    assert not bench.queue.requests


def test_a_batch_without_threads_takes_none(bench: Bench) -> None:
    """A GPU computes it."""
    batch = bench.taken(threads=0)
    assert bench.counts()[0] == (1, 1, 1, 1, 0)
    assert (batch.threads, batch.charged_s) == (0, 0.5)
    batch.give_back()
    assert bench.counts()[0] == (0, 0, 0, 0, 0)


def test_a_batch_uses_the_lease_that_is_held_for_it(bench: Bench) -> None:
    home = bench.queue.home
    held = home.residence.lease()
    home.hold = held
    batch = bench.taken()
    assert not home.hold
    assert home.residence.leases == 1
    batch.give_back()
    assert home.residence.leases == 0
    held.release()
    assert home.residence.leases == 0


def test_a_worker_is_busy_until_all_its_batches_should_have_ended(bench: Bench) -> None:
    slots = bench.slots[0]
    batches = [bench.taken(size=1) for _ in range(2)]
    assert slots.busy_until == NOW + 1.0
    assert bench.slots[1].busy_until == 0
    batches.pop().give_back()
    assert slots.busy_until == NOW + 1.0
    batches.append(bench.taken(size=1, now=NOW + 5))
    assert slots.busy_until == NOW + 5.5
    for batch in batches:
        batch.give_back()
    assert slots.busy_until == 0


@pytest.mark.parametrize(("threads", "charged_s"), [(0, 0.5), (1, 0.5), (2, 1.0), (4, 2.0)])
def test_a_batch_is_charged_what_it_is_expected_to_compute(
    bench: Bench, threads: int, charged_s: float
) -> None:
    assert bench.taken(threads).charged_s == charged_s


def turn_before(bench: Bench, other: ModelQueue, seconds: float) -> bool:
    """Whether the model's turn comes before that of another one that has had so much time."""
    turns = bench.work_queue.turns
    for each in (other, bench.queue):
        turns.enter(each)
    turns.charge(other, seconds)
    chosen = turns.next(lambda _: True)
    turns.charge(other, -seconds)
    return chosen is bench.queue


@pytest.mark.parametrize("weight", [1.0, 4.0])
@pytest.mark.parametrize("threads", [0, 1, 3])
@pytest.mark.parametrize("ends", [False, True])
def test_the_charge_is_corrected_by_the_time_it_took(
    weight: float, threads: int, ends: bool
) -> None:
    """In compute time of all threads, per weight."""
    for more in (-0.01, 0.01):
        bench = Bench()
        bench.queue.expected_s, bench.queue.weight = 0.5, weight
        bench.wait(1)
        batch = bench.taken(threads)
        if ends:
            bench.queue.computed(batch, 0.2)
        charged = (0.2 if ends else 0.5) * max(1, threads) / weight
        other = bench.at_home(2, bench.slots[0])
        assert turn_before(bench, other, charged + more) is (more > 0)


def test_a_batch_of_a_worker_that_the_model_has_left_is_not_corrected(bench: Bench) -> None:
    """Its charge was forgotten with its turn."""
    batch = bench.taken()
    bench.queue.replicas.pop(0)
    bench.queue.computed(batch, 100.0)
    assert turn_before(bench, bench.at_home(2, bench.slots[0]), 0.51)


@pytest.mark.parametrize(
    ("threads", "factor"), [(0, 1.0), (1, 1.0), (2, speedup(2)), (4, speedup(4))]
)
def test_the_next_batch_is_estimated_from_the_last(
    bench: Bench, threads: int, factor: float
) -> None:
    batch = bench.taken(threads, size=4)
    bench.queue.computed(batch, 0.3)
    assert bench.queue.expected_s == pytest.approx(0.4)
    assert bench.queue.work_s == pytest.approx(0.3 * factor)
    assert bench.queue.row_s == pytest.approx(0.3 * factor / 4)
    bench.queue.computed(batch, 0.3)
    assert bench.queue.expected_s == pytest.approx(0.35)


def test_the_first_batch_is_expected_to_read_the_weights() -> None:
    queue = Scene(1).queue
    assert queue.expected_s == 0
    assert queue.work_s == queue.row_s == first_work_s(queue.model.artifact.nbytes) > 0


def test_recent_compute_time_halves() -> None:
    load = WorkerLoad()
    assert (load.recent_s(5.0), load.total_s) == (0.0, 0.0)
    load.computed(4.0, 10.0)
    assert [load.recent_s(10.0), load.recent_s(10.0 + HALF_LIFE_S)] == [4.0, 2.0]
    load.computed(1.0, 10.0 + HALF_LIFE_S)
    assert load.recent_s(10.0 + 2 * HALF_LIFE_S) == 1.5
    assert load.total_s == 5.0


# ---- what a model waits for ----


def test_a_model_is_empty_while_nothing_waits_or_runs() -> None:
    scene = Scene(1)
    queue = scene.queue
    assert queue.empty.is_set()
    task: Any = asyncio.Future(loop=LOOP)
    queue.requests.add(job())
    queue.settle()
    assert not queue.empty.is_set()
    queue.requests.clear()
    queue.settle()
    assert queue.empty.is_set()
    for tasks in (queue.running, queue.waiting_for_memory):
        tasks.add(task)
        queue.settle()
        assert not queue.empty.is_set()
        tasks.clear()
        queue.settle()
        assert queue.empty.is_set()


def test_a_model_without_requests_leaves_its_turn_and_its_leases() -> None:
    scene = Scene(2)
    (further,) = scene.open_in(1)
    scene.wait(1)
    further.hold = further.residence.lease()
    scene.queue.settle()
    assert list(scene.work_queue.turns.inside) == [scene.queue]
    assert further.residence.leases == 1
    scene.queue.requests.clear()
    scene.queue.settle()
    assert not scene.work_queue.turns.inside
    assert further.residence.leases == 0
    assert not further.hold


def test_a_delay_ends_with_the_last_request() -> None:
    async def scenario() -> None:
        scene, now = Scene(2), asyncio.get_running_loop().time()
        scene.queue.delays.begin(now - 3.0)
        scene.queue.delayed = True
        scene.queue.settle()
        assert not scene.queue.delayed
        assert scene.queue.delays.total_s(now) == pytest.approx(3.0, abs=1.0)
        assert scene.queue.delays.begin(now)
        scene.queue.settle()
        assert not scene.queue.delays.begin(now)  # it is another one's to end

    asyncio.run(scenario())


def test_only_requests_without_an_answer_fail() -> None:
    answered, waiting = job(), job()
    answered.answer.set_result(InferenceResponse(b"1", ""))
    error = Unavailable("gone")
    fail({answered: None, waiting: None}, error)
    assert answered.answer.result().body == b"1"
    assert waiting.answer.exception() is error


def test_a_full_queue_names_its_model_and_its_bound() -> None:
    scene = Scene(1)
    for _ in range(4):
        scene.queue.requests.add(job())
    with pytest.raises(QueueFull, match="4 requests are waiting for model '1' already"):
        scene.queue.requests.add(job())
