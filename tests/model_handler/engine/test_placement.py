"""Where a model is opened, and how many threads a long forward gets."""

import asyncio
from collections.abc import Iterator

import pytest

from model_handler.engine.admission import QueueBounds
from model_handler.engine.placement import (
    LEAST_OPENING_S,
    LEAST_TIMER_S,
    MOST_SLOTS,
    STRIKES,
    add_slot,
    added_nbytes,
    better_device,
    competitors,
    due_s,
    idle_elsewhere,
    idle_slots,
    opening_s,
    wide_threads,
)
from model_handler.engine.queues import BatchSlots, Cores, Job, ModelQueue, Replica, WorkQueue
from model_handler.engine.scheduler import soonest
from model_handler.memory.eviction import POLICIES
from model_handler.memory.lease import Residence, Residences
from model_handler.memory.pools import Footprint, MemoryPool, Tier
from model_handler.messages import InferenceRequest, InferenceResponse
from model_handler.sharing.cores import NARROW_S
from tests.model_handler.engine.several_workers import ON_CPU, model
from tests.model_handler.fake_worker import FakeWorker

NBYTES = 30
HEAVY_S = 1.0
LOOP = asyncio.new_event_loop()  # never runs


@pytest.fixture(scope="module", autouse=True)
def _the_loop_is_closed() -> Iterator[None]:
    yield
    LOOP.close()


class Scene:
    """A model at home in the first of several workers. `gpus`: each worker has a device of its own."""

    def __init__(self, workers: int, cores: int = 8, *, gpus: bool = False) -> None:
        self.workers = [FakeWorker(lambda _: NBYTES) for _ in range(workers)]
        self.slots = [
            BatchSlots(worker, name=str(at), device=str(at) if gpus else "", shares_cores=True)
            for at, worker in enumerate(self.workers)
        ]
        self.work_queue = WorkQueue(*self.slots)
        self.cores = Cores(0 if gpus else cores)
        self.host = MemoryPool(Tier.HOST, 1000) if gpus else None
        self.residences = Residences(POLICIES["gdsf"])
        self.queue = self.at_home(1, self.slots[0])

    def at_home(self, key: int, slots: BatchSlots) -> ModelQueue:
        home = Replica(slots, self.residence(key))
        return ModelQueue(home.model, self.work_queue, home, QueueBounds(4, 2))

    def residence(self, key: int) -> Residence:
        pool = MemoryPool(Tier.DEVICE, 1000)
        one = Residence(model(key), NBYTES, self.residences, pool, self.host)
        one.latest, one.tier = Footprint(NBYTES, 0, 4, 0.5), Tier.DEVICE
        return one

    def elsewhere(self) -> BatchSlots | None:
        return idle_elsewhere(self.queue, idle_slots(self.work_queue), self.cores)

    def better(self, *free_nbytes: int) -> BatchSlots | None:
        return better_device(self.queue, {str(at): free for at, free in enumerate(free_nbytes)})

    def wait(self, count: int) -> None:
        """So many requests of the model wait. The clients of these tests never look at their answers."""
        self.queue.requests.clear()
        for _ in range(count):
            answer: asyncio.Future[InferenceResponse] = asyncio.Future(loop=LOOP)
            self.queue.requests[Job(InferenceRequest(b""), 0.0, answer)] = None
        self.work_queue.turns.enter(self.queue)

    def open_in(self, *workers: int) -> list[Replica]:
        further = [Replica(self.slots[at], self.residence(1)) for at in workers]
        self.queue.replicas += further
        return further

    def others_wait(self, count: int) -> None:
        for key in range(2, 2 + count):
            self.work_queue.turns.enter(self.at_home(key, self.slots[0]))

    def wide(self) -> int:
        return wide_threads(self.queue, self.slots[0], self.cores, [self.work_queue])

    def competing(self) -> int:
        return competitors(self.queue, self.slots[0], [self.work_queue])

    def soonest(self) -> Replica | None:
        return soonest(self.queue, self.cores)


def test_another_idle_worker() -> None:
    scene = Scene(3)
    assert scene.elsewhere() is scene.slots[1]
    scene.slots[1].load.in_flight = 1
    assert scene.elsewhere() is scene.slots[2]
    scene.workers[2].running = False
    assert scene.elsewhere() is None


def test_no_other_worker_where_it_is_open_already() -> None:
    scene = Scene(2)
    scene.queue.replicas.append(Replica(scene.slots[1], scene.residence(1)))
    assert scene.elsewhere() is None
    scene.queue.replicas[1].residence.tier = Tier.DISK
    assert scene.elsewhere() is scene.slots[1]


def test_no_other_worker_without_a_core_for_it() -> None:
    scene = Scene(2, cores=1)
    scene.cores.grant(scene.slots[0].load, 1)
    assert scene.elsewhere() is None


def test_no_other_worker_for_a_model_that_lost_one() -> None:
    scene = Scene(2)
    scene.queue.model.strikes = 1
    assert scene.elsewhere() is None


def test_what_another_replica_costs() -> None:
    """Workers on a CPU share the weights; another GPU needs a copy."""
    assert added_nbytes(Scene(2).queue, Scene(2).slots[1]) == 4
    gpus = Scene(2, gpus=True)
    assert added_nbytes(gpus.queue, gpus.slots[1]) == NBYTES
    assert opening_s(gpus.queue) == 0.5


def test_a_heavy_forward_gets_the_cores_that_no_other_worker_needs() -> None:
    scene = Scene(4, cores=8)
    scene.queue.work_s = HEAVY_S
    assert wide_threads(scene.queue, scene.slots[0], scene.cores, [scene.work_queue]) == 8
    scene.cores.grant(scene.slots[1].load, 3)
    scene.slots[1].load.in_flight = 1
    assert wide_threads(scene.queue, scene.slots[0], scene.cores, [scene.work_queue]) == 5
    for key in (2, 3, 4):
        scene.work_queue.turns.enter(scene.at_home(key, scene.slots[2]))
    assert wide_threads(scene.queue, scene.slots[0], scene.cores, [scene.work_queue]) == 3


def test_a_heavy_forward_gets_one_thread_where_no_core_is_free() -> None:
    scene = Scene(2, cores=2)
    scene.queue.work_s = HEAVY_S
    scene.cores.grant(scene.slots[1].load, 2)
    assert wide_threads(scene.queue, scene.slots[0], scene.cores, [scene.work_queue]) == 1


def test_a_model_comes_back_to_its_device_where_there_is_room() -> None:
    scene = Scene(3, gpus=True)
    assert scene.better(NBYTES, 500, 900) is None
    assert scene.better(NBYTES - 1, 500, 900) is scene.slots[2]
    assert scene.better(NBYTES - 1, 0, NBYTES - 1) is None
    scene.workers[2].running = False
    assert scene.better(NBYTES - 1, 500, 900) is scene.slots[1]


def test_a_device_that_does_not_start_is_left() -> None:
    scene = Scene(2, gpus=True)
    scene.workers[0].running, scene.workers[0].failing = False, True
    assert scene.better(1000, 0) is scene.slots[1]
    scene.workers[1].running = False
    assert scene.better(1000, 0) is None


def test_the_time_until_opening_is_due_is_one_that_a_clock_can_measure() -> None:
    scene, now = Scene(2), 4e5  # a clock that has run for days: steps of 6e-11 s
    scene.queue.delays.add(opening_s(scene.queue) - 1e-13, now)
    assert now + due_s(scene.queue, now) > now
    scene.queue.delays.add(1.0, now)
    assert now + due_s(scene.queue, now) > now


def test_a_batch_that_takes_long_leaves_its_slot_to_others() -> None:
    pumped, added = list[int](), list[BatchSlots]()
    worker = FakeWorker(lambda _: NBYTES)
    slots = BatchSlots(worker, shares_cores=True)
    for _ in range(2 * MOST_SLOTS):
        add_slot(slots, added, lambda: pumped.append(slots.depth))
    assert pumped == list(range(3, MOST_SLOTS + 1))
    assert added == [slots] * len(pumped)


def test_slots_of_models_that_generate_or_are_alone_stay() -> None:
    worker = FakeWorker(lambda _: NBYTES)
    for slots in (BatchSlots(worker, each=1, shares_cores=True), BatchSlots(worker)):
        add_slot(slots, added := list[BatchSlots](), lambda: None)
        assert (slots.depth, added) == (2, [])


# ---- further workers ----


@pytest.mark.parametrize("work_s", [NARROW_S, 1.0])
def test_a_wide_forward_gives_a_core_to_another_worker(work_s: float) -> None:
    """Its next batch is narrower: then both workers compute."""
    scene = Scene(2, cores=2)
    scene.cores.grant(scene.slots[0].load, 2)
    assert scene.elsewhere() is None
    scene.queue.running.add(asyncio.Future(loop=LOOP))  # type: ignore[arg-type]
    scene.queue.work_s = work_s
    assert scene.elsewhere() is scene.slots[1]
    scene.queue.work_s = NARROW_S * 0.99
    assert scene.elsewhere() is None


def test_no_other_worker_while_it_is_opened_there() -> None:
    scene = Scene(3)
    (further,) = scene.open_in(1)
    further.residence.tier = Tier.DISK
    further.fetch = asyncio.Future(loop=LOOP)  # type: ignore[assignment]
    assert scene.elsewhere() is scene.slots[2]


def test_a_model_in_main_memory_beside_a_gpu_stays_at_home() -> None:
    scene = Scene(2, gpus=True)
    assert scene.host is not None
    home = Replica(scene.slots[0], scene.residence(ON_CPU))
    home.residence.home = scene.host
    scene.queue = ModelQueue(home.model, scene.work_queue, home, QueueBounds(4, 2))
    assert scene.elsewhere() is None
    assert scene.better(NBYTES - 1, 500) is None


@pytest.mark.parametrize(("strikes", "moves"), [(0, True), (STRIKES - 1, True), (STRIKES, False)])
def test_a_model_that_lost_workers_again_and_again_ends_no_others(
    strikes: int, moves: bool
) -> None:
    scene = Scene(2, gpus=True)
    scene.workers[0].running, scene.workers[0].failing = False, True
    scene.queue.model.strikes = strikes
    assert (scene.better(0, 500) is scene.slots[1]) is moves


def test_a_model_that_lost_a_worker_is_not_moved_for_room() -> None:
    scene = Scene(2, gpus=True)
    scene.queue.model.strikes = 1
    assert scene.better(NBYTES - 1, 500) is None


def test_one_device_at_a_time_is_tried() -> None:
    scene = Scene(3, gpus=True)
    (further,) = scene.open_in(1)
    assert scene.better(NBYTES - 1, NBYTES, NBYTES) is scene.slots[1]
    further.fetch = asyncio.Future(loop=LOOP)  # type: ignore[assignment]
    assert scene.better(NBYTES - 1, NBYTES, 500) is None


def test_a_model_on_a_cpu_waits_for_its_worker() -> None:
    scene = Scene(2)
    scene.workers[0].running, scene.workers[0].failing = False, True
    assert better_device(scene.queue, {"": 500}) is None


def test_opening_takes_as_long_as_the_last_load_but_some_time() -> None:
    scene = Scene(2)
    assert opening_s(scene.queue) == 0.5
    assert due_s(scene.queue, 0.0) == 0.5
    scene.queue.delays.add(0.2, 0.0)
    assert due_s(scene.queue, 0.0) == pytest.approx(0.3)
    scene.queue.delays.add(0.3, 0.0)
    assert due_s(scene.queue, 0.0) == LEAST_TIMER_S
    scene.queue.home.residence.latest = Footprint(NBYTES)
    assert opening_s(scene.queue) == LEAST_OPENING_S
