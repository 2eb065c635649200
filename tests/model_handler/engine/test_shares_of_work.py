"""How the work of a model is divided: threads of its forwards, parts of its queue, and the next worker."""

import pytest

from model_handler.engine.placement import PART_S, share_of_queue
from model_handler.memory.pools import Tier
from model_handler.sharing.cores import NARROW_S
from tests.model_handler.engine.test_placement import HEAVY_S, Scene

# ---- threads of a long forward, and workers that need a core ----


@pytest.mark.parametrize(
    ("cores", "workers", "threads"), [(8, 2, 4), (8, 1, 7), (9, 4, 2), (2, 1, 1), (1, 1, 1)]
)
def test_models_that_generate_keep_a_part_of_the_cores_for_their_worker(
    cores: int, workers: int, threads: int
) -> None:
    """And leave one to others, since they keep it for seconds."""
    scene = Scene(workers, cores)
    scene.queue.work_s = HEAVY_S
    scene.slots[0].each = 1
    assert scene.wide() == threads
    scene.slots[0].each = 2
    assert scene.wide() == cores


def test_a_generation_gets_no_more_than_is_free() -> None:
    scene = Scene(2, cores=8)
    scene.queue.work_s, scene.slots[0].each = HEAVY_S, 1
    scene.cores.grant(scene.slots[1].load, 5)
    assert scene.wide() == 3


@pytest.mark.parametrize(("work_s", "threads"), [(NARROW_S, 2), (0.015, 3), (0.019, 3), (0.1, 8)])
def test_a_forward_gets_as_many_threads_as_it_can_use(work_s: float, threads: int) -> None:
    scene = Scene(1, cores=8)
    scene.queue.work_s = work_s
    assert scene.wide() == threads


@pytest.mark.parametrize(
    ("own", "others", "count"), [(1, 0, 0), (1, 1, 1), (3, 1, 1), (1, 2, 2), (3, 5, 2)]
)
def test_other_workers_compete_as_far_as_there_is_work_for_them(
    own: int, others: int, count: int
) -> None:
    """Of three, two are other ones. The model's own requests are all in this batch."""
    scene = Scene(3)
    scene.wait(own)
    scene.others_wait(others)
    assert scene.competing() == count


def test_a_worker_competes_for_further_requests_of_the_model() -> None:
    """Those that an idle worker, in which it is open, will take in the next batch."""
    scene = Scene(2)
    scene.open_in(1)
    scene.wait(4)
    scene.queue.row_s = PART_S
    assert share_of_queue(scene.queue) == 2
    assert scene.competing() == 1
    scene.slots[1].load.in_flight = 1
    assert share_of_queue(scene.queue) == 4
    assert scene.competing() == 0


def test_busy_workers_do_not_compete() -> None:
    scene = Scene(4)
    scene.wait(1)
    scene.others_wait(5)
    assert scene.competing() == 3
    scene.slots[1].load.in_flight = 1
    scene.workers[2].running = False
    assert scene.competing() == 1


# ---- parts of a queue ----


@pytest.mark.parametrize(
    ("waiting", "row_s", "part"),
    [
        (8, 1.0, 3),  # 3, 3 and 2
        (9, 1.0, 3),
        (10, 1.0, 4),
        (2, 1.0, 1),
        (1, 1.0, 1),
        (6, PART_S / 2, 2),  # three parts
        (5, PART_S / 2, 3),  # two: three would be too short
        (4, PART_S / 2, 2),
        (3, PART_S / 2, 3),
        (8, PART_S / 10, 8),
    ],
)
def test_idle_workers_divide_a_queue_into_parts_that_are_worth_it(
    waiting: int, row_s: float, part: int
) -> None:
    scene = Scene(4)
    scene.open_in(1, 2)
    scene.wait(waiting)
    scene.queue.row_s = row_s
    assert share_of_queue(scene.queue) == part


def test_only_idle_workers_that_have_the_model_take_a_part() -> None:
    scene = Scene(3)
    further = scene.open_in(1, 2)
    scene.wait(6)
    scene.queue.row_s = 1.0
    further[1].residence.tier = Tier.DISK
    assert share_of_queue(scene.queue) == 3
    scene.slots[1].load.in_flight = 1
    assert share_of_queue(scene.queue) == 6


# ---- the replica of the next batch ----


def test_the_next_batch_goes_to_an_idle_worker_the_latest_used_first() -> None:
    scene = Scene(3)
    home = scene.queue.home
    second, third = scene.open_in(1, 2)
    assert scene.soonest() is home
    scene.queue.last = third
    assert scene.soonest() is third
    scene.slots[2].load.in_flight = 1
    assert scene.soonest() is home
    for slots in scene.slots:
        slots.load.in_flight = 1
    for slots, until in zip(scene.slots, (3.0, 1.0, 2.0), strict=True):
        slots.busy_until = until
    assert scene.soonest() is second


def test_a_full_worker_takes_no_batch() -> None:
    scene = Scene(1)
    home, slots = scene.queue.home, scene.slots[0]
    slots.in_flight = slots.depth - 1
    assert scene.soonest() is home
    slots.in_flight = slots.depth
    assert scene.soonest() is None
    slots.in_flight, slots.each = 0, 1
    assert scene.soonest() is home
    home.running = 1
    assert scene.soonest() is None


def test_a_worker_takes_a_batch_of_a_model_that_it_has_or_that_is_held_there() -> None:
    scene = Scene(1)
    home = scene.queue.home
    lease = home.residence.lease()
    home.residence.leaving = True
    assert scene.soonest() is None
    home.hold = lease
    assert scene.soonest() is home


def test_a_worker_takes_no_batch_without_a_core() -> None:
    scene = Scene(2, cores=1)
    scene.cores.grant(scene.slots[1].load, 1)
    assert scene.soonest() is None
    scene.cores.give_back(scene.slots[1].load, 1)
    assert scene.soonest() is scene.queue.home
