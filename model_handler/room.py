"""Room on the device: found by demoting idle models, and learned from its out-of-memory errors.

Invariants: a leased model is not demoted; whoever finds room has the turn, so that requests for room
are served first come, first served; no wait for the turn holds up the one who has it.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from contextlib import asynccontextmanager

from model_handler import eviction
from model_handler.errors import InsufficientMemory, ModelNotFound
from model_handler.memory import Footprint, MemoryPool, Reservation, Tier
from model_handler.moves import Mover, Moves
from model_handler.residence import Residence

log = logging.getLogger(__name__)
LEARNED_SHARE = (
    0.85  # of what the driver reports as free: the rest is for activations and workspaces
)


class Room:
    """Owner of the pools, of which `open` sets the budgets: only a worker knows its device.

    `residences`: all that are admitted, by model_id; owned by Residency.
    """

    def __init__(self, mover: Mover, residences: dict[int, Residence]) -> None:
        self.device = MemoryPool(Tier.DEVICE, 0)
        self.host: MemoryPool | None = None
        self.moves = Moves(mover, self.pulse)
        self._mover = mover
        self._residences = residences
        self._turn = asyncio.Lock()
        self._changed = asyncio.Event()  # pulsed when a lease ends or bytes come back
        self._growing: set[asyncio.Task[None]] = set()
        self.clock = 0.0  # of eviction

    def open(self, device_nbytes: int, host_nbytes: int | None) -> None:
        """`host_nbytes` is None where main memory is the device."""
        self.device = MemoryPool(Tier.DEVICE, device_nbytes)
        self.host = None if host_nbytes is None else MemoryPool(Tier.HOST, host_nbytes)

    def pulse(self) -> None:
        """A lease ended, or bytes came back: whoever waits looks again."""
        self._changed.set()
        self._changed = asyncio.Event()

    async def changed(self) -> None:
        await self._changed.wait()

    # ---- the turn ----

    @asynccontextmanager
    async def turn(self, residence: Residence) -> AsyncIterator[None]:
        """Held while room is found for the residence, which others do not wait for meanwhile."""
        residence.asking = True
        self.pulse()
        try:
            async with self._turn:
                yield
        finally:
            residence.asking = False

    async def find(self, wanting: Residence, nbytes: int) -> Reservation:
        """Bytes of its pool; on the device by demoting others where they can be demoted.

        The caller has the turn. Raises InsufficientMemory, or ModelNotFound once `wanting` is closed.
        """
        if wanting.home is not self.device:
            return wanting.home.reserve(nbytes)
        try:
            while nbytes > self.device.free and self.host is not None:
                if not await self._made(wanting, nbytes):
                    break
                check_open(wanting)
            return self.device.reserve(nbytes)
        finally:
            for residence in self._residences.values():
                residence.leaving = False

    async def _made(self, wanting: Residence, nbytes: int) -> bool:
        """False when `nbytes` do not fit and will not. Raises InsufficientMemory of the host."""
        try:
            if await self._make(wanting, nbytes - self.device.free):
                return True
        except InsufficientMemory:
            if not await self._relearned(nbytes):
                raise
            return True
        return await self._relearned(nbytes)

    async def _make(self, wanting: Residence, needed: int) -> bool:
        """One step towards `needed` more free bytes; False, and no model leaves, when it can't be."""
        others = [one for one in self._residences.values() if one is not wanting]
        if needed > sum(one.movable_nbytes for one in others):
            return False
        choice = eviction.choose(_candidates(others), needed)
        self._check_host(wanting, (*choice.leave, *choice.wait))
        for model_id in choice.wait:
            self._residences[model_id].leaving = True
        await self._demote(choice)
        if choice.leave:
            return True
        if choice.wait or any(one.in_transit for one in others):
            await self.changed()
            return True
        return False

    async def _demote(self, choice: eviction.Choice) -> None:
        self.clock = max(self.clock, choice.clock)
        await self.moves.leave(*(self._residences[model_id] for model_id in choice.leave))

    def _check_host(self, wanting: Residence, leaving: Iterable[int]) -> None:
        """A new model must not push others out of main memory; one that was loaded already may."""
        assert self.host is not None
        needed = sum(self._residences[model_id].nbytes for model_id in leaving)
        if needed > self.host.free and not wanting.settled:
            raise InsufficientMemory(
                f"{needed} bytes of host memory needed for models that would be demoted,"
                f" {self.host.free} of {self.host.capacity} free"
            )

    # ---- corrections ----

    async def correct(self, residence: Residence, footprint: Footprint) -> None:
        """Make the reservations what was measured. Raises InsufficientMemory, or ModelNotFound."""
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
        """Find room for what the residence has taken already; `refused` is called with the reason when
        there is none."""
        task = asyncio.create_task(self._grow(residence, footprint, refused))
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
        """Main memory that a process has taken already: demoted models are read from the disk instead."""
        assert self.host is not None
        waiting = [one for one in self._residences.values() if one.waiting is not None]
        for residence in sorted(waiting, key=lambda one: one.standing.priority):
            if self.host.free >= nbytes:
                return
            residence.leave_host()

    # ---- what an out-of-memory of the device teaches ----

    async def relieve(self, residence: Residence, *, for_activations: bool) -> bool:
        """The device ran out of memory at a load or a forward of this model: learn what there is, and
        demote idle models. False where none can be demoted.

        `for_activations`: their room is left free, since it was a forward that lacked it.
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
                freed = sum(self._residences[model_id].nbytes for model_id in choice.leave)
                self.device.learn(self.device.limit - freed)
        return bool(choice.leave)

    async def _relearned(self, nbytes: int) -> bool:
        """Where an out-of-memory had lowered the limit: is there room for `nbytes` by now?"""
        if self.device.limit >= self.device.budget:
            return False
        await self._learn()
        return nbytes <= self.device.free

    async def _learn(self) -> None:
        """Set the limit to what is on the device, and a share of what its driver has left."""
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
    """Raises ModelNotFound for a model that is being unloaded."""
    if residence.closed:
        raise ModelNotFound("the model was unloaded")
