"""Where every model's weights are: admission to the tiers, leases, promotion.

Invariants: a leased model is not demoted; the device reservations cover whatever is on the device or
on its way there. On a machine with a GPU, an idle model is demoted when another needs its room: its
master copy is its file, counted to main memory while there is room for it. A load is refused when the
models that would have to be demoted for it do not fit into main memory; a promotion is not. Without a
GPU nothing is demoted, and a full device refuses the load. A model with a process of its own is never
demoted: what its code keeps in memory may be more than its weights.
"""

import asyncio
import logging
from collections.abc import Iterable

from model_handler import eviction
from model_handler.errors import (
    EngineError,
    InsufficientMemory,
    ModelLoadFailed,
    ModelNotFound,
    WorkerDied,
)
from model_handler.memory import Footprint, MemoryPool, Tier
from model_handler.model import Model
from model_handler.moves import Mover
from model_handler.overheads import Overhead, Overheads
from model_handler.residence import Lease, Residence
from model_handler.room import Room, check_open

log = logging.getLogger(__name__)


class Residency:
    """Capacities are 0 until `open`: only a worker knows its device."""

    def __init__(self, mover: Mover, cost: eviction.Cost = eviction.POLICIES["gdsf"]) -> None:
        self._mover = mover
        self._residences: dict[int, Residence] = {}
        self._room = Room(mover, self._residences)
        self._moves = self._room.moves
        self._overheads = Overheads()
        self._cost = cost
        self._uses = 0

    def open(self, device_nbytes: int, host_nbytes: int | None) -> None:
        """Set the budgets; `None` where main memory is the device."""
        self._room.open(device_nbytes, host_nbytes)

    @property
    def device(self) -> MemoryPool:
        return self._room.device

    @property
    def host(self) -> MemoryPool | None:
        return self._room.host

    # ---- admission and departure ----

    async def admit(self, model: Model, nbytes: int, overhead: Overhead | None = None) -> None:
        """Give a new model its place and bring it to the device.

        `overhead`: of the process that carries it, which is held once for all models of that process.
        Raises InsufficientMemory before anything is read where it cannot fit. After any error, and
        after cancellation, nothing of the model remains.
        """
        home = self.host if self.host is not None and model.on_cpu else self.device
        if nbytes > home.budget:
            raise InsufficientMemory(_too_large(nbytes, home))
        self._residences[model.model_id] = Residence(model, nbytes, home, self.host)
        try:
            if overhead is not None:
                await self.hold(model, overhead)
            (await self.acquire(model)).release()
        except BaseException:
            await asyncio.shield(self.vacate(model))
            raise

    async def hold(self, model: Model, overhead: Overhead) -> None:
        """Reserve what the model's process takes of the device by itself, unless another model has."""
        wanting = self._residences[model.model_id]
        async with self._room.turn(wanting):
            if not self._overheads.join(model.model_id, overhead):
                reservation = await self._room.find(wanting, overhead.nbytes)
                self._overheads.add(model.model_id, overhead, reservation)

    async def vacate(self, model: Model) -> None:
        """Take the model off every tier once its leases ended. Afterwards its bytes are back."""
        residence = self._residences[model.model_id]
        residence.closed = True
        self._room.pulse()  # a promotion of it that waits for room gives up
        if residence.arriving is not None:
            residence.arriving.cancel()
        if residence.promotion is not None:
            await asyncio.wait([residence.promotion])
        while residence.leases:
            await self._room.changed()
        await self._moves.drop(residence)
        del self._residences[model.model_id]
        residence.free_all()
        self._overheads.leave(model.model_id)
        self._room.pulse()

    # ---- leases ----

    def resident(self, model: Model) -> bool:
        """Is the model on the device and free to be leased?"""
        residence = self._residences.get(model.model_id)
        return residence is not None and residence.leasable

    def lease(self, model: Model) -> Lease:
        """The model must be resident."""
        return self._use(Lease(self._residences[model.model_id], self._room.pulse))

    async def acquire(self, model: Model) -> Lease:
        """Promote if need be; the lease begins the moment the model arrives."""
        return self._use(await self._claim(self._admitted(model)))

    async def _claim(self, residence: Residence) -> Lease:
        if residence.leasable:
            return Lease(residence, self._room.pulse)
        claim: asyncio.Future[Lease] = asyncio.get_running_loop().create_future()
        residence.claims.append(claim)
        if residence.promotion is None:
            residence.promotion = asyncio.create_task(self._promote(residence))
        try:
            return await claim
        except asyncio.CancelledError:
            if claim.done() and not claim.cancelled() and claim.exception() is None:
                claim.result().release()
            raise

    def _use(self, lease: Lease) -> Lease:
        residence = lease.residence
        self._uses += 1
        now = eviction.Now(self._uses, self._room.clock, len(self._residences))
        residence.standing = eviction.use(residence.standing, residence.nbytes, now, self._cost)
        return lease

    # ---- promotion ----

    async def promote(self, model: Model) -> None:
        """Return when the model is on the device. Counts as no use."""
        (await self._claim(self._admitted(model))).release()

    def _admitted(self, model: Model) -> Residence:
        residence = self._residences.get(model.model_id)
        if residence is None or residence.closed:
            raise ModelNotFound(f"model {model.info.name!r} is not loaded")
        return residence

    async def _promote(self, residence: Residence) -> None:
        """Run as a task of its own; its outcome goes to the claims."""
        error: EngineError | None = None
        try:
            await self._bring(residence)
            check_open(residence)
        except EngineError as refused:
            error = refused
        except Exception as mistake:  # ours; whoever waits must hear of it all the same
            log.exception("promotion failed", extra={"model": residence.model.info.name})
            error = ModelLoadFailed(f"the model could not be moved: {type(mistake).__name__}")
        finally:
            residence.promotion = None
            self._settle(residence, error)

    def _settle(self, residence: Residence, error: EngineError | None) -> None:
        """Hand a lease, or the reason why not, to everyone who asked meanwhile."""
        claims, residence.claims = residence.claims, []
        for claim in claims:
            if claim.done():
                continue
            if error is None:
                claim.set_result(Lease(residence, self._room.pulse))
            else:
                claim.set_exception(error)
        self._room.pulse()

    async def _bring(self, residence: Residence) -> None:
        async with self._room.turn(residence):
            if residence.demotion is not None:
                await asyncio.wait([residence.demotion])
            if residence.tier is Tier.DEVICE:
                return  # whoever wanted it to leave has found room elsewhere
            if residence.device is None:
                await self._find_room(residence)
        check_open(residence)
        await self._fetch(residence)

    async def _find_room(self, residence: Residence) -> None:
        """Its place in main memory is free for those who have to leave the device for it."""
        residence.leave_host()
        try:
            residence.device = await self._room.find(residence, residence.nbytes)
        except BaseException:
            residence.descend()
            raise

    async def _fetch(self, residence: Residence) -> None:
        try:
            losses = residence.losses
            footprint = await self._arrival(residence)
            await self._room.correct(residence, footprint)
            if residence.losses != losses:
                raise WorkerDied("the model's process ended before the model could be used")
            residence.nbytes = footprint.nbytes
        except WorkerDied:
            if residence.demotable:  # else it keeps its place, as in `lost`
                residence.free_device()
            raise
        except (InsufficientMemory, ModelNotFound):
            await self._moves.leave(residence)  # it may have arrived, only too large or too late
            raise
        except EngineError:
            residence.kept = False
            residence.free_device()
            raise
        residence.ascend()

    async def _arrival(self, residence: Residence) -> Footprint:
        """After an out-of-memory of the device itself, once more with an idle model less on it."""
        try:
            return await self._moves.arrive(residence)
        except InsufficientMemory:
            if not await self._room.relieve(residence, for_activations=False):
                raise
            check_open(residence)
            return await self._moves.arrive(residence)

    def remeasure(self, model: Model, footprint: Footprint) -> None:
        """The model holds this much by now. Raises InsufficientMemory where there is no room for it.

        On a GPU room is made first, by demoting idle models: where that fails, the process is ended.
        """
        residence = self._residences.get(model.model_id)
        if residence is None or residence.device is None or residence.tier is not Tier.DEVICE:
            return
        footprint = footprint._replace(nbytes=max(footprint.nbytes, residence.nbytes))
        try:
            residence.measured(footprint)
        except InsufficientMemory:
            if self.host is None:
                raise
            self._room.grow(
                residence,
                footprint,
                lambda reason: self._mover.end(
                    model, f"it grew to {footprint.nbytes} bytes: {reason}"
                ),
            )

    async def relieve(self, model: Model) -> bool:
        """After a forward of the model ran out of device memory: demote idle models and leave their room
        to activations. False where none can be demoted. The caller holds no lease."""
        residence = self._residences.get(model.model_id)
        if residence is None or residence.closed:
            return False
        return await self._room.relieve(residence, for_activations=True)

    # ---- the worker's death ----

    def lost(self, models: Iterable[Model]) -> None:
        """The process that held them died: nothing of them is on the device any more.

        Models that are not demoted to make room keep their reservations: nobody may take their place
        before they are back.
        """
        for model in models:
            residence = self._residences.get(model.model_id)
            if residence is None:
                continue
            residence.kept = False
            residence.losses += 1
            if residence.tier is Tier.DEVICE:
                residence.displaced = True
                residence.descend()
                if self.host is not None and residence.home is self.device:
                    residence.free_device()
        self._room.pulse()

    def forgive(self, worker: str) -> None:
        """The device's process was replaced, and with it came back what it had leaked."""
        self._moves.forgive(worker)

    def models(self) -> list[Model]:
        """Whoever has a place here."""
        return [residence.model for residence in self._residences.values()]

    def model(self, model_id: int) -> Model | None:
        residence = self._residences.get(model_id)
        return None if residence is None else residence.model

    def displaced(self) -> list[Model]:
        """What was on a lost device and is not back yet, the most recently used first."""
        order = sorted(self._residences.values(), key=lambda one: one.standing.used, reverse=True)
        return [residence.model for residence in order if residence.displaced]


def _too_large(nbytes: int, pool: MemoryPool) -> str:
    return f"{nbytes} bytes needed, more than all {pool.budget} bytes of {pool.tier.value} memory"
