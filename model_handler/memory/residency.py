"""Records where the weights of every replica are, and grants admission, leases and promotion.

Invariants: a leased model is not demoted; reservations cover all weights on the device or on their way to
it. On a machine with a GPU, an idle model is demoted when another model needs its memory: its master copy
is its file, which is counted to main memory while there is room for it. A load is refused if the models
that it would demote do not fit into main memory; a promotion is not refused for that reason. Without a
GPU only further replicas are demoted, and a load on a full device is refused. An isolated model is never
demoted, since its code may hold more in memory than weights.
"""

import asyncio
import logging
from collections.abc import Iterable

from model_handler.background import in_background
from model_handler.errors import (
    EngineError,
    InsufficientMemory,
    ModelLoadFailed,
    ModelNotFound,
    WorkerDied,
)
from model_handler.memory import eviction
from model_handler.memory.lease import Lease, Residence, Residences
from model_handler.memory.moves import Mover
from model_handler.memory.overheads import Overhead, Overheads
from model_handler.memory.pools import Footprint, MemoryPool, Tier
from model_handler.memory.room import Room, check_open
from model_handler.model import Model

log = logging.getLogger(__name__)


class Residency:
    """Owns the state of all models admitted to one device. `host`: see Room."""

    def __init__(
        self,
        mover: Mover,
        device_nbytes: int,
        host: MemoryPool | None,
        cost: eviction.Cost = eviction.POLICIES["gdsf"],
    ) -> None:
        self._mover = mover
        self._residences = Residences(cost)
        self._room = Room(mover, device_nbytes, host, self._residences)
        self._moves = self._room.moves
        self._overheads = Overheads()

    @property
    def device(self) -> MemoryPool:
        return self._room.device

    @property
    def host(self) -> MemoryPool | None:
        return self._room.host

    # ---- admission and departure ----

    async def admit(self, model: Model, nbytes: int, overhead: Overhead | None = None) -> None:
        """Admit a new model and load it onto the device.

        `overhead`: memory of the process that serves the model, reserved once for all models of that
        process. Raises InsufficientMemory before anything is read if the model cannot fit. After any error,
        and after cancellation, nothing of the model remains.
        """
        home = self.host if self.host is not None and model.on_cpu else self.device
        if nbytes > home.budget:
            raise InsufficientMemory(_too_large(nbytes, home))
        residences = self._residences
        residences[model.key] = Residence(model, nbytes, residences, home, self.host)
        try:
            if overhead is not None:
                await self.hold(model, overhead)
            (await self.acquire(model)).release()
        except BaseException:
            await asyncio.shield(self.vacate(model))
            raise

    def enlist(self, replica: Model, nbytes: int) -> Residence:
        """Admit a further replica without loading it; its first lease does. `nbytes`: estimate of the memory
        that it adds."""
        home = self.host if self.host is not None and replica.on_cpu else self.device
        residences = self._residences
        residence = Residence(replica, nbytes, residences, home, self.host, extra=True)
        residences[replica.key] = residence
        return residence

    async def hold(self, model: Model, overhead: Overhead) -> None:
        """Reserve the device memory of the model's process, unless another model has reserved it already."""
        wanting = self._admitted(model)
        async with self._room.turn(wanting):
            if not self._overheads.join(model.key, overhead):
                reservation = await self._room.find(wanting, overhead.nbytes)
                self._overheads.add(model.key, overhead, reservation)

    async def vacate(self, model: Model) -> None:
        """Remove the model from every tier after its leases have ended, and release its reservations."""
        residence = self._residences[model.key]
        residence.closed = True
        self._residences.pulse()  # a promotion of this model that waits for room gives up
        try:
            if residence.arriving is not None:
                residence.arriving.cancel()
            if residence.promotion is not None:
                await asyncio.wait([residence.promotion])
            while residence.leases:
                await self._residences.changed()
            await self._moves.drop(residence)
        finally:
            del self._residences[model.key]
            residence.free_all()
            self._overheads.leave(model.key)
            self._residences.pulse()

    # ---- leases ----

    def residence(self, model: Model) -> Residence:
        """The record of an admitted model, for its leases."""
        return self._residences[model.key]

    async def acquire(self, model: Model) -> Lease:
        """Lease a model, after its promotion if necessary. The lease begins when the model arrives."""
        lease = await self._claim(self._admitted(model))
        try:
            self._residences.count_use(lease.residence)
        except BaseException:
            lease.release()
            raise
        return lease

    async def _claim(self, residence: Residence) -> Lease:
        if residence.leasable:
            return Lease(residence)
        claim: asyncio.Future[Lease] = asyncio.get_running_loop().create_future()
        residence.claims.append(claim)
        if residence.promotion is None:
            residence.promotion = in_background(self._promote(residence))
        try:
            return await claim
        except asyncio.CancelledError:
            if claim.done() and not claim.cancelled() and claim.exception() is None:
                claim.result().release()
            raise

    def relocate(self, model: Model, former: Model) -> None:
        """Free the model in its former worker once its batches there have ended. It has got another worker,
        in which its next promotion loads it. `former`: the model with the former worker's name."""
        residence = self._residences[model.key]
        if residence.promotion is None and residence.demotion is None:
            self._moves.relocate(residence, former)

    # ---- promotion ----

    async def promote(self, model: Model) -> None:
        """Return when the model is on the device. Eviction does not count this as a use."""
        (await self._claim(self._admitted(model))).release()

    def _admitted(self, model: Model) -> Residence:
        residence = self._residences.get(model.key)
        if residence is None or residence.closed:
            raise ModelNotFound(f"model {model.info.name!r} is not loaded")
        return residence

    async def _promote(self, residence: Residence) -> None:
        """Runs as a separate task; sets the results of the claims."""
        error: EngineError | None = ModelLoadFailed("the model could not be moved")
        try:
            await self._bring(residence)
            check_open(residence)
            error = None
        except EngineError as refused:
            error = refused
        except Exception as mistake:  # an unexpected error: waiting claims must still get a result
            log.exception("promotion failed", extra={"model": residence.model.info.name})
            error = ModelLoadFailed(f"the model could not be moved: {type(mistake).__name__}")
        finally:
            residence.promotion = None
            self._settle(residence, error)

    def _settle(self, residence: Residence, error: EngineError | None) -> None:
        """Give every waiting claim a lease, or the error."""
        claims, residence.claims = residence.claims, []
        for claim in claims:
            if claim.done():
                continue
            try:
                lease = Lease(residence) if error is None else None
            except Exception as mistake:
                log.exception("no lease", extra={"model": residence.model.info.name})
                error = ModelLoadFailed(f"the model is not there: {type(mistake).__name__}")
            if error is not None:
                claim.set_exception(error)
            elif lease is not None:
                claim.set_result(lease)
        self._residences.pulse()

    async def _bring(self, residence: Residence) -> None:
        async with self._room.turn(residence):
            if residence.demotion is not None:
                await asyncio.wait([residence.demotion])
            if residence.tier is Tier.DEVICE:
                return  # the demotion it was chosen for was not needed
            if residence.device is None:
                await self._find_room(residence)
        check_open(residence)
        await self._fetch(residence)

    async def _find_room(self, residence: Residence) -> None:
        """Release its main memory first, for the models that are demoted to make room for it."""
        residence.leave_host()
        try:
            residence.device = await self._room.find(residence, residence.nbytes)
        except BaseException:
            residence.descend()
            raise

    async def _fetch(self, residence: Residence) -> None:
        try:
            residence.latest = await self._arrival(residence)
            footprint = residence.counted(residence.latest)
            await self._room.correct(residence, footprint)
            if residence.lost:
                raise WorkerDied("the model's process ended before the model could be used")
            residence.nbytes = footprint.nbytes
        except WorkerDied:
            if residence.demotable:  # otherwise it keeps its reservation, as in `lost`
                await self._moves.leave(residence)  # the next process may have loaded it
            raise
        except (InsufficientMemory, ModelNotFound):
            await self._moves.leave(residence)  # it may be on the device, but too large or too late
            raise
        except EngineError:
            residence.free_device()
            raise
        except Exception:
            await self._moves.leave(residence)  # nobody knows what its worker holds
            raise
        residence.ascend()

    async def _arrival(self, residence: Residence) -> Footprint:
        """Load the model; after an out-of-memory error of the device, demote idle models and try again."""
        try:
            return await self._moves.arrive(residence)
        except InsufficientMemory:
            if not await self._room.relieve(residence, for_activations=False):
                raise
            check_open(residence)
            return await self._moves.arrive(residence)

    def remeasure(self, model: Model, footprint: Footprint) -> None:
        """Record the memory that the model holds now; end its process if there is no room for it.

        Other replicas are demoted to make room.
        """
        residence = self._residences.get(model.key)
        if residence is None or residence.device is None or residence.tier is not Tier.DEVICE:
            return
        footprint = footprint._replace(nbytes=max(footprint.nbytes, residence.nbytes))
        try:
            residence.measured(footprint)
        except InsufficientMemory:

            def end(reason: str) -> None:
                self._mover.end(model, f"it grew to {footprint.nbytes} bytes: {reason}")

            self._room.grow(residence, footprint, end)

    async def relieve(self, model: Model) -> bool:
        """Demote idle models after a forward of this model ran out of device memory, and keep the freed
        memory for activations. False if none can be demoted. The caller holds no lease."""
        residence = self._residences.get(model.key)
        if residence is None or residence.closed:
            return False
        return await self._room.relieve(residence, for_activations=True)

    # ---- death of a worker ----

    def lost(self, models: Iterable[Model]) -> None:
        """Record that the process of these models died, and their weights with it.

        Models that cannot be demoted keep their reservations, so that no other model takes their memory
        before they are loaded again.
        """
        for model in models:
            residence = self._residences.get(model.key)
            if residence is None:
                continue
            residence.kept = False
            residence.lost = True
            if residence.tier is Tier.DEVICE:
                residence.displaced = not residence.extra
                residence.descend()
                if residence.extra or (self.host is not None and residence.home is self.device):
                    residence.free_device()
        self._residences.pulse()

    def release_leaks(self, worker: str) -> None:
        """Release the leaks of a worker whose process was replaced."""
        self._moves.release_leaks(worker)

    def models(self) -> list[Model]:
        """The replicas of all admitted models."""
        return [residence.model for residence in self._residences.values()]

    def open_in(self, worker: str) -> int:
        """The number of models on the device whose replica is in that worker."""
        on_device = (one for one in self._residences.values() if one.tier is Tier.DEVICE)
        return sum(one.model.worker == worker for one in on_device)

    def displaced(self) -> list[Model]:
        """Models that were on a lost device and are not loaded again yet, the most recently used first."""
        order = sorted(self._residences.values(), key=lambda one: one.standing.used, reverse=True)
        return [residence.model for residence in order if residence.displaced]


def _too_large(nbytes: int, pool: MemoryPool) -> str:
    return f"{nbytes} bytes needed, more than all {pool.budget} bytes of {pool.tier.value} memory"
