"""Where every model's weights are, and the moving of them between tiers.

Always true: a leased model is not demoted; the device reservations cover whatever is on the device or
on its way there; a model makes one move at a time, and every move ends. Without a GPU there is no host
tier: nothing is then demoted to make room, and a full device refuses the load. A model with a process
of its own is never demoted: what its code keeps in memory may be more than its weights.
"""

import asyncio
import logging
from collections.abc import Iterable, Iterator
from typing import Protocol

from model_handler import eviction
from model_handler.errors import (
    EngineError,
    InsufficientMemory,
    ModelLoadFailed,
    ModelNotFound,
    WorkerDied,
)
from model_handler.memory import MemoryPool, Reservation, Tier
from model_handler.model import Model
from model_handler.residence import Lease, Residence

log = logging.getLogger(__name__)


class Mover(Protocol):
    """What carries weights; raises EngineErrors."""

    async def load(self, model: Model) -> int:
        """Bring the model to the device; the bytes it really holds there."""
        ...

    async def unload(self, model: Model) -> int:
        """Free the device, whatever it takes; the bytes that are still held afterwards."""
        ...


class Residency:
    """Owner of the pools. Capacities are 0 until `open`: only a worker knows its device."""

    def __init__(self, mover: Mover, cost: eviction.Cost = eviction.POLICIES["gdsf"]) -> None:
        self.device = MemoryPool(Tier.DEVICE, 0)
        self.host: MemoryPool | None = None
        self._mover = mover
        self._residences: dict[int, Residence] = {}
        self._cost = cost
        self._uses = 0
        self._clock = 0.0  # of eviction
        self._turn = asyncio.Lock()  # promotions find room one after the other: first come
        self._changed = asyncio.Event()  # pulsed when a lease ends or bytes come back
        self._leaks: list[Reservation] = []

    def open(self, device_nbytes: int, host_nbytes: int | None) -> None:
        """Set the budgets; `None` where main memory is the device."""
        self.device.capacity = device_nbytes
        self.host = None if host_nbytes is None else MemoryPool(Tier.HOST, host_nbytes)

    # ---- admission and departure ----

    async def admit(self, model: Model, nbytes: int) -> None:
        """Give a new model its place and bring it to the device.

        Raises InsufficientMemory before anything is read where it cannot fit. After any error, and
        after cancellation, nothing of the model remains.
        """
        if nbytes > self.device.capacity:
            raise InsufficientMemory(_too_large(nbytes, self.device))
        host = self.host.reserve(nbytes) if self.host else None
        self._residences[model.model_id] = Residence(model, nbytes, host)
        try:
            (await self.acquire(model)).release()
        except BaseException:
            await asyncio.shield(self.vacate(model))
            raise

    async def vacate(self, model: Model) -> None:
        """Take the model off every tier once its leases ended. Afterwards its bytes are back."""
        residence = self._residences[model.model_id]
        residence.closed = True
        self._pulse()  # a promotion of it that waits for room gives up
        if residence.arriving is not None:
            residence.arriving.cancel()
        if residence.promotion is not None:
            await asyncio.wait([residence.promotion])
        while residence.leases:
            await self._changed.wait()
        await self._demote(residence)
        del self._residences[model.model_id]
        if residence.host is not None:
            residence.host.release()
        self._pulse()

    # ---- leases ----

    def resident(self, model: Model) -> bool:
        """Is the model on the device and free to be leased?"""
        residence = self._residences.get(model.model_id)
        return residence is not None and residence.leasable

    def lease(self, model: Model) -> Lease:
        """The model must be resident."""
        return self._use(Lease(self._residences[model.model_id], self._pulse))

    async def acquire(self, model: Model) -> Lease:
        """Promote if need be; the lease begins the moment the model arrives."""
        return self._use(await self._claim(self._admitted(model)))

    async def _claim(self, residence: Residence) -> Lease:
        if residence.leasable:
            return Lease(residence, self._pulse)
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
        now = eviction.Now(self._uses, self._clock, len(self._residences))
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
            _check_open(residence)
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
                claim.set_result(Lease(residence, self._pulse))
            else:
                claim.set_exception(error)
        self._pulse()

    async def _bring(self, residence: Residence) -> None:
        async with self._turn:
            if residence.demotion is not None:
                await asyncio.wait([residence.demotion])
            if residence.tier is Tier.DEVICE:
                return  # whoever wanted it to leave has found room elsewhere
            if residence.device is None:
                residence.device = await self._room(residence, residence.nbytes)
        _check_open(residence)
        await self._fetch(residence, residence.device)

    async def _fetch(self, residence: Residence, reservation: Reservation) -> None:
        try:
            measured = await self._arrival(residence)
            await self._correct(residence, reservation, measured)
        except WorkerDied:
            if self.host is not None:  # else it keeps its place, as in `lost`
                residence.free_device()
            raise
        except (InsufficientMemory, ModelNotFound):
            await self._demote(residence)  # it may have arrived, only too large or too late
            raise
        except EngineError:
            residence.free_device()
            raise
        residence.tier = Tier.DEVICE
        residence.displaced = False

    async def _arrival(self, residence: Residence) -> int:
        """The measured bytes. Raises ModelNotFound when the model was unloaded meanwhile."""
        residence.arriving = asyncio.create_task(self._mover.load(residence.model))
        try:
            return await residence.arriving
        except asyncio.CancelledError:
            raise ModelNotFound("the model was unloaded") from None
        finally:
            residence.arriving = None

    async def _correct(self, residence: Residence, device: Reservation, measured: int) -> None:
        """Make the reservations what was measured. Raises InsufficientMemory."""
        if measured > device.nbytes:
            async with self._turn:
                (await self._room(residence, measured - device.nbytes)).release()
                device.resize(measured)
        else:
            device.resize(measured)
        if residence.host is not None:
            residence.host.resize(measured)
        residence.nbytes = measured

    def remeasure(self, model: Model, nbytes: int) -> None:
        """The model holds this much by now. Raises InsufficientMemory where the device has no room."""
        residence = self._residences.get(model.model_id)
        if residence is not None and residence.device is not None:
            residence.device.resize(max(nbytes, residence.nbytes))

    # ---- room ----

    async def _room(self, wanting: Residence, nbytes: int) -> Reservation:
        """Device bytes, by demoting others where there is a host tier to fall back on."""
        try:
            while nbytes > self.device.free and self.host is not None:
                if not await self._make_room(wanting, nbytes - self.device.free):
                    break
                _check_open(wanting)
            return self.device.reserve(nbytes)
        finally:
            for residence in self._residences.values():
                residence.leaving = False

    async def _make_room(self, wanting: Residence, needed: int) -> bool:
        """One step towards `needed` more free bytes; False, and nobody leaves, when it can't be."""
        others = [one for one in self._residences.values() if one is not wanting]
        if needed > sum(one.movable_nbytes for one in others):
            return False
        choice = eviction.choose(self._candidates(), needed)
        self._clock = max(self._clock, choice.clock)
        for model_id in choice.wait:
            self._residences[model_id].leaving = True
        await self._demote(*(self._residences[model_id] for model_id in choice.leave))
        if choice.leave:
            return True
        if choice.wait or any(one.in_transit for one in others):
            await self._changed.wait()
            return True
        return False

    def _candidates(self) -> Iterator[eviction.Candidate]:
        for one in self._residences.values():
            if one.tier is Tier.DEVICE and not one.closed and not one.model.isolated:
                yield one.candidate

    # ---- demotion ----

    async def _demote(self, *residences: Residence) -> None:
        """Free the models' device bytes; the artifacts stay the master copies.

        All leave from now on: none of them can be leased while another is still leaving.
        """
        for residence in residences:
            if residence.demotion is None and residence.device is not None:
                residence.descend()
                residence.demotion = asyncio.create_task(self._leave(residence))
        demotions = [one.demotion for one in residences if one.demotion is not None]
        if demotions:
            await asyncio.wait(demotions)

    async def _leave(self, residence: Residence) -> None:
        """Run as a task of its own, so that no cancellation leaves it half done."""
        leaked = 0
        try:
            leaked = await self._mover.unload(residence.model)
        finally:
            residence.demotion = None
            if leaked and residence.device is not None:
                self._keep_leak(residence, residence.device, leaked)
            residence.free_device()
            self._pulse()

    def _keep_leak(self, residence: Residence, reservation: Reservation, leaked: int) -> None:
        """Bytes that did not come back stay in the ledger until their process is replaced."""
        reservation.resize(min(leaked, reservation.nbytes))
        self._leaks.append(reservation)
        residence.device = None
        log.error("leaked", extra={"model": residence.model.info.name, "nbytes": leaked})

    # ---- the worker's death ----

    def lost(self, models: Iterable[Model]) -> None:
        """The process that held them died: nothing of them is on the device any more.

        Without a host tier the models keep their reservations: nobody may take their place before
        they are back.
        """
        for model in models:
            residence = self._residences.get(model.model_id)
            if residence is not None and residence.tier is Tier.DEVICE:
                residence.displaced = True
                residence.descend()
                if self.host is not None:
                    residence.free_device()
        self._pulse()

    def forgive(self) -> None:
        """The device's process was replaced, and with it came back what it had leaked."""
        while self._leaks:
            self._leaks.pop().release()
        self._pulse()

    def models(self) -> list[Model]:
        """Whoever has a place here."""
        return [residence.model for residence in self._residences.values()]

    def displaced(self) -> list[Model]:
        """What was on a lost device and is not back yet, the most recently used first."""
        order = sorted(self._residences.values(), key=lambda one: one.standing.used, reverse=True)
        return [residence.model for residence in order if residence.displaced]

    def _pulse(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()


def _check_open(residence: Residence) -> None:
    if residence.closed:
        raise ModelNotFound("the model was unloaded")


def _too_large(nbytes: int, pool: MemoryPool) -> str:
    return f"{nbytes} bytes needed, more than all {pool.capacity} bytes of {pool.tier.value} memory"
