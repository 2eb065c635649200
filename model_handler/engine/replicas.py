"""Opens models in further workers, and brings back those that are not on a device.

Invariant: at most one load of a replica is in progress. A further replica that cannot be opened
makes no request fail.
"""

import asyncio
import logging
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence

from model_handler.background import in_background
from model_handler.engine.placement import (
    added_nbytes,
    better_device,
    due_s,
    idle_elsewhere,
    idle_slots,
    opening_s,
)
from model_handler.engine.queues import (
    BatchSlots,
    Cores,
    Job,
    ModelQueue,
    Replica,
    RunningBatch,
    WorkQueue,
    fail,
)
from model_handler.errors import EngineError, InsufficientMemory, unexpected
from model_handler.memory.residency import Residency
from model_handler.model import Model

log = logging.getLogger(__name__)
STARVED = "the request needs more memory than the device has left"
EXAMINED = 16  # waiting models per turn for which a further worker is considered, the longest waiting first


class Replicas:
    """`residencies`: by device, as in BatchSlots. `pump` is called when a replica can compute,
    `computed` with jobs that wait for memory no more."""

    def __init__(
        self,
        residencies: Mapping[str, Residency],
        cores: Cores,
        pump: Callable[[WorkQueue], None],
        computed: Callable[[Iterable[Job]], None],
    ) -> None:
        self._residencies = residencies
        self._cores = cores
        self._pump = pump
        self._computed = computed

    async def move(self, model_queue: ModelQueue, work_queue: WorkQueue, slots: BatchSlots) -> None:
        """Make another worker the model's only one. Batches in flight end where they are."""
        home, *further = model_queue.replicas
        model_queue.work_queue.turns.forget(model_queue)
        model_queue.work_queue = work_queue
        home.drop_hold()
        model_queue.replicas = [Replica(slots, home.residence)]
        if model_queue.requests:
            work_queue.turns.enter(model_queue)
            self._pump(work_queue)
        await self.vacate(further)

    async def vacate(self, replicas: Iterable[Replica]) -> None:
        """Return when their workers have freed them."""
        for replica in replicas:
            replica.drop_hold()
        residencies = self._residencies
        each = (residencies[one.slots.device].vacate(one.model) for one in replicas)
        for error in await asyncio.gather(*each, return_exceptions=True):
            if error is not None:
                log.critical("a replica was not unloaded", exc_info=error)

    def lost(self, model_queue: ModelQueue, model: Model) -> None:
        """Release the lease of the replica whose worker died."""
        for replica in model_queue.replicas:
            if replica.model is model:
                replica.drop_hold()

    # ---- what waits ----

    def look_after(self, waiting: Sequence[ModelQueue]) -> None:
        """Called with the models of one work queue that cannot run now."""
        if not waiting:
            return
        idle = idle_slots(waiting[0].work_queue)
        for number, model_queue in enumerate(waiting):
            try:
                self._look_after(model_queue, idle if number < EXAMINED else ())
            except BaseException as error:  # noqa: BLE001  logged, and answered to this model's requests
                give_up(model_queue, error)

    def _look_after(self, model_queue: ModelQueue, idle: Collection[BatchSlots]) -> None:
        if not any(replica.here for replica in model_queue.replicas):
            self._bring(model_queue)
        else:
            self._watch(model_queue, idle)

    def note_start(self, model_queue: ModelQueue, slots: BatchSlots, now: float) -> None:
        """A batch is about to be sent: in a busy worker it waits behind other batches."""
        if len(model_queue.work_queue.slots) == 1:
            return
        delays = model_queue.delays
        delays.end(now)
        model_queue.delayed = False
        if not slots.load.in_flight:
            return
        free = idle_slots(model_queue.work_queue)
        if free and (idle := idle_elsewhere(model_queue, free, self._cores)):
            delays.add(max(0.0, slots.busy_until - now), now)
            self._open_if_due(model_queue, idle, now)

    def _watch(self, model_queue: ModelQueue, free: Collection[BatchSlots]) -> None:
        idle = idle_elsewhere(model_queue, free, self._cores) if free else None
        now = asyncio.get_running_loop().time()
        if idle is None:
            model_queue.delays.end(now)
            model_queue.delayed = False
            return
        model_queue.delays.begin(now)
        model_queue.delayed = True
        self._open_if_due(model_queue, idle, now)
        if model_queue.due_timer is None:
            self._set_timer(model_queue, now)

    def _set_timer(self, model_queue: ModelQueue, now: float) -> None:
        """Pump when opening the model in another worker is due. A timer that ends early is set again."""

        def due() -> None:
            model_queue.due_timer = None
            self._pump(model_queue.work_queue)

        model_queue.due_timer = asyncio.get_running_loop().call_later(due_s(model_queue, now), due)

    def _open_if_due(self, model_queue: ModelQueue, idle: BatchSlots, now: float) -> None:
        if model_queue.delays.total_s(now) >= opening_s(model_queue):
            nbytes = added_nbytes(model_queue, idle)
            if self._residencies[idle.device].device.free >= nbytes:
                self._open(model_queue, idle, nbytes)
            else:
                model_queue.delays.refuse(now)

    # ---- opening ----

    def _bring(self, model_queue: ModelQueue) -> None:
        """Promote the model where it is at home, unless another device is the better place for it now."""
        better = None
        if not model_queue.delays.refused(asyncio.get_running_loop().time()):
            room = {name: one.device.free for name, one in self._residencies.items()}
            better = better_device(model_queue, room)
        if better is not None:
            self._open(model_queue, better, added_nbytes(model_queue, better))
        elif not any(replica.fetch for replica in model_queue.replicas):
            home = model_queue.home
            home.fetch = in_background(self._fetch(model_queue, home))

    def _open(self, model_queue: ModelQueue, slots: BatchSlots, nbytes: int) -> None:
        """Promote the model's replica in that worker, which is created if necessary."""
        replica = next((one for one in model_queue.replicas if one.slots is slots), None)
        if replica is None:
            twin = model_queue.model.twin(len(model_queue.replicas), slots.name)
            residence = self._residencies[slots.device].enlist(twin, nbytes)
            replica = Replica(slots, residence)
            model_queue.replicas.append(replica)
        model_queue.delays.clear()
        replica.fetch = in_background(self._fetch(model_queue, replica))

    async def _fetch(self, model_queue: ModelQueue, replica: Replica) -> None:
        """Promote the replica; its lease is kept in `hold` until its next batch."""
        try:
            residency = self._residencies[replica.slots.device]
            lease = await residency.acquire(replica.model)
            if replica in model_queue.replicas:
                replica.hold = lease
            else:
                lease.release()  # the model moved to another worker meanwhile
            if replica is not model_queue.home:
                log.info("opened in another worker", extra=_facts(model_queue, replica))
        except asyncio.CancelledError:
            raise
        except BaseException as error:
            if not isinstance(error, EngineError):
                log.critical("promotion failed", exc_info=error)
            self._not_fetched(model_queue, replica, unexpected(error))
        finally:
            replica.fetch = None
            model_queue.settle()
        self._pump(model_queue.work_queue)

    def _not_fetched(self, model_queue: ModelQueue, replica: Replica, error: EngineError) -> None:
        if replica is not model_queue.home:
            model_queue.delays.refuse(asyncio.get_running_loop().time())
            facts = _facts(model_queue, replica) | {"reason": str(error)}
            log.info("not opened in another worker", extra=facts)
        elif not any(other.here or other.fetch for other in model_queue.replicas[1:]):
            fail(model_queue.requests.take_all(), error)

    # ---- out of device memory ----

    def retry(self, batch: RunningBatch, starved: list[Job]) -> None:
        """Queue requests of a batch again once there is more memory. In a task of its own, without a lease or
        a slot of the worker: making room may wait for both."""
        model_queue = batch.model_queue
        model_queue.computing.update(starved)
        task = in_background(self._retry(batch, starved))
        model_queue.waiting_for_memory.add(task)

    async def _retry(self, batch: RunningBatch, starved: list[Job]) -> None:
        model_queue, task = batch.model_queue, asyncio.current_task()
        assert task is not None
        relieved = False
        try:
            residency = self._residencies[batch.slots.device]
            relieved = await residency.relieve(batch.replica.model)
        except BaseException as mistake:
            log.critical("no memory could be freed", exc_info=mistake)
            fail(starved, unexpected(mistake))
        finally:
            model_queue.computing.difference_update(starved)
            model_queue.waiting_for_memory.discard(task)
            self._computed(starved)
        if relieved:
            waiting = [job for job in starved if not job.answer.done()]
            model_queue.requests.update(dict.fromkeys([*waiting, *model_queue.requests.take_all()]))
            model_queue.work_queue.turns.enter(model_queue)
        else:
            fail(starved, InsufficientMemory(STARVED))
        model_queue.settle()
        self._pump(model_queue.work_queue)


def give_up(model_queue: ModelQueue, error: BaseException, begun: Iterable[Job] = ()) -> None:
    """Answer the model's waiting requests after an error of ours, which would hold up other models if it came
    again and again. `begun`: those that were taken out of the queue."""
    log.critical("scheduling failed", exc_info=error, extra={"model": model_queue.model.info.name})
    fail([*begun, *model_queue.requests.take_all()], unexpected(error))
    model_queue.settle()


def _facts(model_queue: ModelQueue, replica: Replica) -> dict[str, object]:
    return {"model": model_queue.model.info.name, "worker": replica.slots.name}
