"""Where every model's weights are, and the moving of them between tiers.

Always true: a leased model is not demoted; the device reservations cover whatever is on the device or
on its way there; one promotion per model is in flight. Without a GPU there is no host tier: nothing is
then demoted to make room, and a full device refuses the load.
"""

import asyncio
import itertools
import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Protocol

from model_handler import eviction
from model_handler.errors import EngineError, InsufficientMemory, ModelNotFound, WorkerDied
from model_handler.memory import MemoryPool, Reservation, Tier
from model_handler.model import Model

log = logging.getLogger(__name__)


class Mover(Protocol):
    """What carries weights; raises EngineErrors."""

    async def load(self, model: Model) -> int:
        """Bring the model to the device; the bytes it really holds there."""
        ...

    async def unload(self, model: Model) -> int:
        """Free the device, whatever it takes; the bytes that are still held afterwards."""
        ...


@dataclass(slots=True, eq=False)
class Residence:
    """One admitted model and its places. `leaving`: chosen for demotion, gets no new lease."""

    model: Model
    nbytes: int
    host: Reservation | None
    device: Reservation | None = None
    tier: Tier = Tier.DISK
    leases: int = 0
    used: int = 0
    leaving: bool = False
    closed: bool = False
    promotion: asyncio.Task[None] | None = None
    claims: "list[asyncio.Future[Lease]]" = field(default_factory=list)


class Lease:
    """A batch's right that its model stays on the device, until `release` (idempotent)."""

    def __init__(self, residence: Residence, released: Callable[[], None]) -> None:
        self._residence: Residence | None = residence
        self._released = released
        residence.leases += 1

    def release(self) -> None:
        if self._residence is not None:
            self._residence.leases -= 1
            self._residence = None
            self._released()


class Residency:
    """Owner of the pools. Capacities are 0 until `open`: only a worker knows its device."""

    def __init__(self, mover: Mover) -> None:
        self.device = MemoryPool(Tier.DEVICE, 0)
        self.host: MemoryPool | None = None
        self._mover = mover
        self._residences: dict[int, Residence] = {}
        self._clock = itertools.count(1)
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
            await self.promote(model)
        except BaseException:
            await asyncio.shield(self.vacate(model))
            raise

    async def vacate(self, model: Model) -> None:
        """Take the model off every tier once its leases ended. Afterwards its bytes are back."""
        residence = self._residences[model.model_id]
        residence.closed = True
        if residence.promotion is not None:
            residence.promotion.cancel()
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
        return residence is not None and _leasable(residence)

    def lease(self, model: Model) -> Lease:
        """The model must be resident."""
        return self._lease(self._residences[model.model_id])

    async def acquire(self, model: Model) -> Lease:
        """Promote if need be; the lease begins the moment the model arrives."""
        residence = self._admitted(model)
        if _leasable(residence):
            return self._lease(residence)
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

    def _lease(self, residence: Residence) -> Lease:
        assert residence.tier is Tier.DEVICE
        residence.used = next(self._clock)
        return Lease(residence, self._pulse)

    # ---- promotion ----

    async def promote(self, model: Model) -> None:
        """Return when the model is on the device."""
        (await self.acquire(model)).release()

    def _admitted(self, model: Model) -> Residence:
        residence = self._residences.get(model.model_id)
        if residence is None or residence.closed:
            raise ModelNotFound(f"model {model.info.name!r} is not loaded")
        return residence

    async def _promote(self, residence: Residence) -> None:
        """Run as a task of its own; its outcome goes to the claims."""
        try:
            await self._bring(residence)
        except EngineError as error:
            self._settle(residence, error)
        except asyncio.CancelledError:
            self._settle(residence, ModelNotFound("the model was unloaded"))
            raise
        else:
            self._settle(residence, None)

    def _settle(self, residence: Residence, error: EngineError | None) -> None:
        """Hand a lease, or the reason why not, to everyone who asked meanwhile."""
        residence.promotion = None
        claims, residence.claims = residence.claims, []
        for claim in claims:
            if claim.done():
                continue
            if error is None:
                claim.set_result(self._lease(residence))
            else:
                claim.set_exception(error)
        self._pulse()

    async def _bring(self, residence: Residence) -> None:
        async with self._turn:
            if residence.tier is Tier.DEVICE:
                return  # whoever wanted it to leave has found room elsewhere
            if residence.device is None:
                residence.device = await self._room(residence.nbytes)
        await self._fetch(residence, residence.device)

    async def _fetch(self, residence: Residence, reservation: Reservation) -> None:
        try:
            measured = await self._mover.load(residence.model)
            reservation.resize(measured)
        except (InsufficientMemory, asyncio.CancelledError):
            await asyncio.shield(self._demote(residence))  # it may have arrived, only too large
            raise
        except WorkerDied:
            if self.host is not None:  # else it keeps its place, as in `lost`
                _free_device(residence)
            raise
        except EngineError:
            _free_device(residence)
            raise
        residence.nbytes = measured
        residence.tier = Tier.DEVICE
        residence.used = next(self._clock)

    # ---- room ----

    async def _room(self, nbytes: int) -> Reservation:
        """Device bytes, by demoting others where there is a host tier to fall back on."""
        try:
            while nbytes > self.device.free and self.host is not None:
                if not await self._make_room(nbytes - self.device.free):
                    break
            return self.device.reserve(nbytes)
        finally:
            self._nobody_leaves()

    async def _make_room(self, needed: int) -> bool:
        """One step towards `needed` more free bytes; False when there is nobody to move."""
        choice = eviction.choose(self._candidates(), needed)
        for model_id in choice.wait:
            self._residences[model_id].leaving = True
        for residence in [self._residences[model_id] for model_id in choice.leave]:
            await self._demote(residence)
        if choice.leave:
            return True
        if choice.wait or self._in_transit():
            await self._changed.wait()
            return True
        return False

    def _candidates(self) -> Iterator[eviction.Candidate]:
        for model_id, one in self._residences.items():
            if one.tier is Tier.DEVICE and not one.closed:
                yield eviction.Candidate(model_id, one.nbytes, one.used, one.leases > 0)

    def _in_transit(self) -> bool:
        """Are bytes reserved for models that are just arriving or departing?"""
        places = (one for one in self._residences.values() if one.device is not None)
        return any(one.closed or one.tier is not Tier.DEVICE for one in places)

    def _nobody_leaves(self) -> None:
        for residence in self._residences.values():
            residence.leaving = False

    async def _demote(self, residence: Residence) -> None:
        """Free the model's device bytes; the artifact stays the master copy."""
        if residence.device is None:
            return
        residence.tier = _below(residence)
        leaked = await self._mover.unload(residence.model)
        if leaked and residence.device is not None:
            self._keep_leak(residence, residence.device, leaked)
        _free_device(residence)
        self._pulse()

    def _keep_leak(self, residence: Residence, reservation: Reservation, leaked: int) -> None:
        """Bytes that did not come back stay in the ledger until their process is replaced."""
        reservation.resize(min(leaked, reservation.nbytes))
        self._leaks.append(reservation)
        residence.device = None
        log.error("leaked", extra={"model": residence.model.info.name, "nbytes": leaked})

    # ---- the worker's death ----

    def lost(self) -> None:
        """The device's process died: nothing is on the device any more.

        Without a host tier the models keep their reservations: nobody may take their place before
        they are back.
        """
        for residence in self._residences.values():
            if residence.tier is Tier.DEVICE:
                residence.tier = _below(residence)
                if self.host is not None:
                    _free_device(residence)
        while self._leaks:
            self._leaks.pop().release()
        self._pulse()

    def by_recency(self) -> list[Model]:
        """All admitted models, most recently used first."""
        order = sorted(self._residences.values(), key=lambda one: one.used, reverse=True)
        return [residence.model for residence in order]

    def _pulse(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()


def _leasable(residence: Residence) -> bool:
    return residence.tier is Tier.DEVICE and not residence.leaving and not residence.closed


def _below(residence: Residence) -> Tier:
    return Tier.DISK if residence.host is None else Tier.HOST


def _free_device(residence: Residence) -> None:
    residence.tier = _below(residence)
    if residence.device is not None:
        residence.device.release()
        residence.device = None


def _too_large(nbytes: int, pool: MemoryPool) -> str:
    return f"{nbytes} bytes needed, more than all {pool.capacity} bytes of {pool.tier.value} memory"
