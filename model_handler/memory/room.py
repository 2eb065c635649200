"""Room on the device: frees memory by demoting models, and learns the limit from out-of-memory errors.

Invariants: a leased model is not demoted. Only the holder of the turn frees memory, so that requests for
room are served first come, first served. The holder of the turn never waits for a model that waits for it.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Hashable, Iterable, Iterator
from contextlib import asynccontextmanager

from model_handler.background import in_background
from model_handler.errors import InsufficientMemory, ModelNotFound
from model_handler.memory import eviction
from model_handler.memory.lease import Residence, Residences
from model_handler.memory.moves import Mover, Moves
from model_handler.memory.pools import Footprint, MemoryPool, Reservation, Tier

log = logging.getLogger(__name__)
# Share of the memory reported as free that models may use; the rest is for activations and workspaces
LEARNED_SHARE = 0.85


class Room:
    """Owns the device's pool. `host`: main memory, shared by all devices; None if it is the device.

    `residences`: owned by Residency.
    """

    def __init__(
        self,
        mover: Mover,
        device_nbytes: int,
        host: MemoryPool | None,
        residences: Residences,
    ) -> None:
        self.device = MemoryPool(Tier.DEVICE, device_nbytes)
        self.host = host
        self.moves = Moves(mover, residences.pulse)
        self._mover = mover
        self._residences = residences
        self._turn = asyncio.Lock()
        self._growing: set[asyncio.Task[None]] = set()

    # ---- the turn ----

    @asynccontextmanager
    async def turn(self, residence: Residence) -> AsyncIterator[None]:
        """Hold the turn while room is found for the residence. Others do not wait for its memory meanwhile,
        which would be a deadlock."""
        residence.asking = True
        self._residences.pulse()
        try:
            async with self._turn:
                yield
        finally:
            residence.asking = False

    async def find(self, wanting: Residence, nbytes: int) -> Reservation:
        """Reserve bytes in the pool of `wanting`; demote other replicas for it if necessary.

        The caller holds the turn. Raises InsufficientMemory, or ModelNotFound once `wanting` is closed.
        """
        if wanting.home is not self.device:
            return wanting.home.reserve(nbytes)
        try:
            while nbytes > self.device.free:
                if not await self._made(wanting, nbytes):
                    break
                check_open(wanting)
            return self.device.reserve(nbytes)
        finally:
            for residence in self._residences.values():
                residence.leaving = False

    async def _made(self, wanting: Residence, nbytes: int) -> bool:
        """One step towards `nbytes` free bytes. False if they cannot be freed.

        Raises InsufficientMemory if main memory has no room for the models that would be demoted.
        """
        try:
            if await self._make(wanting, nbytes - self.device.free):
                return True
        except InsufficientMemory:
            if not await self._relearned(nbytes):
                raise
            return True
        return await self._relearned(nbytes)

    async def _make(self, wanting: Residence, needed: int) -> bool:
        """One step towards `needed` more free bytes. False, without demoting a model, if it is impossible."""
        others = [one for one in self._residences.values() if one is not wanting]
        if needed > sum(one.movable_nbytes for one in others):
            return False
        choice = eviction.choose(_candidates(others), needed)
        self._check_host(wanting, (*choice.leave, *choice.wait))
        for key in choice.wait:
            self._residences[key].leaving = True
        await self._demote(choice)
        if choice.leave:
            return True
        if choice.wait or any(one.in_transit for one in others):
            await self._residences.changed()
            return True
        return False

    async def _demote(self, choice: eviction.Choice) -> None:
        self._residences.clock = max(self._residences.clock, choice.clock)
        await self.moves.leave(*(self._residences[key] for key in choice.leave))

    def _check_host(self, wanting: Residence, leaving: Iterable[Hashable]) -> None:
        """A new model must not evict others from main memory; a model that was loaded before may."""
        if self.host is None:
            return
        places = (self._residences[key] for key in leaving)
        needed = sum(one.nbytes for one in places if not one.extra)
        if needed > self.host.free and not wanting.settled:
            raise InsufficientMemory(
                f"{needed} bytes of host memory needed for models that would be demoted,"
                f" {self.host.free} of {self.host.capacity} free"
            )

    # ---- corrections ----

    async def correct(self, residence: Residence, footprint: Footprint) -> None:
        """Set the reservations to the measured memory. Raises InsufficientMemory or ModelNotFound."""
        assert residence.device is not None
        missing = footprint.nbytes - residence.device.nbytes
        if missing <= 0:
            self._record(residence, footprint)
            return
        async with self.turn(residence):
            (await self.find(residence, missing)).release()
            self._record(residence, footprint)

    def _record(self, residence: Residence, footprint: Footprint) -> None:
        if residence.settled and footprint.main_nbytes:
            self._free_host(footprint.main_nbytes)
        residence.measured(footprint)

    def grow(
        self, residence: Residence, footprint: Footprint, refused: Callable[[str], None]
    ) -> None:
        """Find room, in a task, for memory that the model has allocated already. Calls `refused` with the
        reason if there is none."""
        task = in_background(self._grow(residence, footprint, refused))
        self._growing.add(task)
        task.add_done_callback(self._growing.discard)

    async def _grow(
        self, residence: Residence, footprint: Footprint, refused: Callable[[str], None]
    ) -> None:
        try:
            if residence.device is not None and residence.tier is Tier.DEVICE:
                await self.correct(residence, footprint)
        except InsufficientMemory as error:
            refused(str(error))
        except ModelNotFound:
            pass  # it is being unloaded

    def _free_host(self, nbytes: int) -> None:
        """Free main memory that a process has allocated: demoted models are read from disk instead."""
        assert self.host is not None
        waiting = [one for one in self._residences.values() if one.waiting is not None]
        for residence in sorted(waiting, key=lambda one: one.standing.priority):
            if self.host.free >= nbytes:
                return
            residence.leave_host()

    # ---- after an out-of-memory error of the device ----

    async def relieve(self, residence: Residence, *, for_activations: bool) -> bool:
        """Measure the device after a load or a forward of this model ran out of memory, and demote idle
        models. False if none can be demoted.

        `for_activations`: keep the freed memory free, since a forward needs it.
        """
        if self.host is None or residence.home is not self.device:
            return False
        async with self.turn(residence):
            await self._learn()
            others = [one for one in self._residences.values() if one is not residence and one.idle]
            over = max(1, self.device.reserved - self.device.limit)
            choice = eviction.choose(_candidates(others), over)
            self._check_host(residence, choice.leave)
            await self._demote(choice)
            if for_activations:
                freed = sum(self._residences[key].nbytes for key in choice.leave)
                self.device.learn(self.device.limit - freed)
        return bool(choice.leave)

    async def _relearned(self, nbytes: int) -> bool:
        """Measure again if an out-of-memory error had lowered the limit. True if `nbytes` now fit."""
        if self.device.limit >= self.device.budget:
            return False
        await self._learn()
        return nbytes <= self.device.free

    async def _learn(self) -> None:
        """Set the limit to the bytes of the models on the device plus a share of the device's free memory."""
        free = await self._mover.trim()
        if free is None:
            return
        held = self.device.reserved - sum(one.coming_nbytes for one in self._residences.values())
        self.device.learn(held + int(LEARNED_SHARE * free))
        log.warning(
            "device memory measured",
            extra={"free_nbytes": free, "held_nbytes": held, "limit_nbytes": self.device.limit},
        )


def _candidates(residences: Iterable[Residence]) -> Iterator[eviction.Candidate]:
    for one in residences:
        if one.demotable and one.tier is Tier.DEVICE and not one.closed:
            yield one.candidate


def check_open(residence: Residence) -> None:
    """Raises ModelNotFound if the model is being unloaded."""
    if residence.closed:
        raise ModelNotFound("the model was unloaded")
