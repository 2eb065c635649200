"""Where a model is opened, and how many threads a long forward gets."""

from model_handler.engine.admission import QueueBounds
from model_handler.engine.placement import (
    MOST_SLOTS,
    add_slot,
    added_nbytes,
    better_device,
    due_s,
    idle_elsewhere,
    idle_slots,
    opening_s,
    wide_threads,
)
from model_handler.engine.queues import BatchSlots, Cores, ModelQueue, Replica, WorkQueue
from model_handler.memory.eviction import POLICIES
from model_handler.memory.lease import Residence, Residences
from model_handler.memory.pools import Footprint, MemoryPool, Tier
from tests.model_handler.engine.several_workers import model
from tests.model_handler.fake_worker import FakeWorker

NBYTES = 30
HEAVY_S = 1.0


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
