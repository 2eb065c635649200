"""In which workers a model is open, and how many cores a long forward gets. Decisions on plain state.

A model is open in one worker, its home, which keeps the worker's caches warm and the batches large. It is
opened in a further worker when its requests have waited, while that worker was idle, for longer than opening
it there takes (the break-even rule of the ski rental problem).
"""

import math
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import NamedTuple

from model_handler.engine.queues import BatchSlots, Cores, ModelQueue, WorkQueue
from model_handler.sharing.cores import NARROW_S, wanted

LEAST_TIMER_S = 1e-3
LEAST_OPENING_S = 0.005
STRIKES = 2  # times that one model may lose the device of others
PART_S = 0.004  # of compute time; a batch costs about 1.4 ms whatever its size
SLOW_S = 1.0
MOST_SLOTS = 16


# ---- slots ----


def add_slot(slots: BatchSlots, added: list[BatchSlots], pump: Callable[[], object]) -> None:
    """Called while a batch of the worker is in flight for SLOW_S: another one may be sent beside it.

    A batch that takes long is mostly in preparation, and the process prepares those of other models beside
    it. Not for models that generate: their batches take long by nature. `added`: gets the slots if there is
    one more; the caller takes it back when the batch has ended.
    """
    if slots.each > 1 and slots.shares_cores and slots.depth < MOST_SLOTS:
        added.append(slots)
        slots.depth += 1
        pump()


# ---- cores ----


def wide_threads(
    model_queue: ModelQueue, slots: BatchSlots, cores: Cores, sharing: Collection[WorkQueue]
) -> int:
    """Threads for a batch that takes long: those that it can use, as far as cores are free and no other
    worker needs them. `sharing`: all work queues whose batches share the cores.

    Models with one batch at a time in a worker, those that generate, keep their threads for seconds: each
    worker has its part of the cores.
    """
    free = cores.free_for(slots) - competitors(model_queue, slots, sharing)
    if slots.each == 1:
        free = min(free, cores.total // len(model_queue.work_queue.slots), cores.total - 1)
    return max(1, min(wanted(model_queue.work_s, cores.total), free))


def competitors(model_queue: ModelQueue, slots: BatchSlots, sharing: Collection[WorkQueue]) -> int:
    """Other workers that could start to compute now: for another waiting model, or for more requests of this
    one."""
    waiting = sum(len(work_queue.turns.inside) for work_queue in sharing)
    if len(model_queue.requests) <= share_of_queue(model_queue):
        waiting -= 1  # all its requests are in this batch
    if waiting <= 0:
        return 0
    idle = {other.load for one in sharing for other in one.slots if other.idle}
    return min(waiting, len(idle - {slots.load}))


def share_of_queue(model_queue: ModelQueue) -> int:
    """The number of waiting requests for the next batch, when idle workers divide the queue: several
    workers with one thread each are faster than one with several. No part takes less than PART_S."""
    waiting = len(model_queue.requests)
    idle = sum(1 for replica in model_queue.replicas if replica.slots.idle and replica.here)
    parts = min(idle, int(waiting * model_queue.row_s / PART_S))
    return math.ceil(waiting / parts) if parts > 1 else waiting


# ---- replicas ----


def idle_slots(work_queue: WorkQueue) -> list[BatchSlots]:
    """Those of workers that compute nothing."""
    return [slots for slots in work_queue.slots if slots.idle]


def idle_elsewhere(
    model_queue: ModelQueue, idle: Iterable[BatchSlots], cores: Cores
) -> BatchSlots | None:
    """One of the idle workers in which the model is not open. A core must be free for it, unless a
    running batch of the model holds several."""
    if model_queue.model.strikes or _stays(model_queue):
        return None
    present = {replica.slots for replica in model_queue.replicas if replica.here or replica.fetch}
    spreads = model_queue.running and model_queue.work_s >= NARROW_S
    for slots in idle:
        if slots not in present and (spreads or cores.has_one_for(slots)):
            return slots
    return None


def _stays(model_queue: ModelQueue) -> bool:
    """Whether the model computes in main memory beside a GPU, where its home serves all."""
    residence = model_queue.home.residence
    return residence.home is residence.host


def added_nbytes(model_queue: ModelQueue, slots: BatchSlots) -> int:
    """Estimated device memory of a further replica in that worker: workers share weights in main memory."""
    residence = model_queue.home.residence
    shares = residence.host is None
    return residence.latest.private_nbytes if shares else residence.nbytes


def better_device(model_queue: ModelQueue, free_nbytes: Mapping[str, int]) -> BatchSlots | None:
    """Where to open a model that is on no device, if not at home: its home does not start, or would have to
    demote other models while another device has room."""
    home = model_queue.home.slots
    others = [one for one in model_queue.work_queue.slots if one is not home and one.worker.running]
    if any(replica.fetch for replica in model_queue.replicas[1:]):
        return None
    if model_queue.model.strikes >= STRIKES:
        return None  # it would end other workers too
    on_cpu = (
        model_queue.home.residence.host is None
    )  # a worker is back sooner than the model is opened
    if on_cpu or not home.worker.failing:
        others = _roomier(model_queue, others, free_nbytes)
    return max(others, key=lambda one: free_nbytes[one.device], default=None)


def _roomier(
    model_queue: ModelQueue, others: list[BatchSlots], free_nbytes: Mapping[str, int]
) -> list[BatchSlots]:
    """The workers whose device has room for the model, if its home's has not."""
    home, nbytes = model_queue.home.slots, model_queue.home.residence.nbytes
    if free_nbytes[home.device] >= nbytes or model_queue.model.strikes or _stays(model_queue):
        return []
    return [one for one in others if free_nbytes[one.device] >= nbytes]


def opening_s(model_queue: ModelQueue) -> float:
    """The time to open the model in a further worker: as long as its last load."""
    return max(LEAST_OPENING_S, model_queue.home.residence.latest.seconds)


def due_s(model_queue: ModelQueue, now: float) -> float:
    """Seconds until the model's waits have lasted as long as opening it takes; at least LEAST_TIMER_S, since
    a timer for what rounding left would end at the time at which it was set."""
    left_s = opening_s(model_queue) - model_queue.delays.total_s(now)
    return max(LEAST_TIMER_S, left_s)


class DeviceRoom(NamedTuple):
    """What is known of a device when a model needs one."""

    name: str
    running: bool
    failing: bool
    in_flight: int
    free_nbytes: int


def preferred(devices: Iterable[DeviceRoom], nbytes: int) -> list[str]:
    """The devices in the order in which a load of `nbytes` tries them: those with free room before those that
    must demote a model, then the least busy, then the freest. Those whose workers do not start are left out,
    unless there is no other."""

    def order(device: DeviceRoom) -> tuple[bool, bool, int, int]:
        full = device.free_nbytes < nbytes
        return not device.running, full, device.in_flight, -device.free_nbytes

    ordered = sorted(devices, key=order)
    return [one.name for one in ordered if not one.failing] or [one.name for one in ordered]
