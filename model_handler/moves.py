"""The moves of single models between tiers: each is one task, which no cancellation leaves half done.

Invariant: a model makes one move at a time, and every move ends.
"""

import asyncio
import logging
from collections.abc import Callable
from typing import Protocol

from model_handler.errors import ModelNotFound
from model_handler.memory import Footprint, Reservation
from model_handler.model import Model
from model_handler.residence import Residence

log = logging.getLogger(__name__)


class Mover(Protocol):
    """What carries weights; raises EngineErrors."""

    async def load(self, model: Model) -> Footprint:
        """Bring the model to the device; what it was measured to hold there."""
        ...

    async def demote(self, model: Model) -> int:
        """Free the device memory, and keep what makes the next `load` cheap; as `unload` otherwise."""
        ...

    async def unload(self, model: Model) -> int:
        """Free all of it, whatever it takes; the bytes that are still held on the device afterwards."""
        ...

    async def trim(self) -> int | None:
        """Give what the processes hold unused back to the device; the bytes its driver reports as free,
        or None where nobody can say."""
        ...

    def end(self, model: Model, reason: str) -> None:
        """End the process of a model that has one of its own."""
        ...


class Moves:
    """`changed` is called when bytes came back."""

    def __init__(self, mover: Mover, changed: Callable[[], None]) -> None:
        self._mover = mover
        self._changed = changed
        self._leaks: list[tuple[str, Reservation]] = []  # with the worker that holds the bytes

    async def arrive(self, residence: Residence) -> Footprint:
        """Raises ModelNotFound when the model was unloaded meanwhile."""
        residence.arriving = asyncio.create_task(self._mover.load(residence.model))
        try:
            return await residence.arriving
        except asyncio.CancelledError:
            raise ModelNotFound("the model was unloaded") from None
        finally:
            residence.arriving = None

    async def leave(self, *residences: Residence) -> None:
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

    async def drop(self, residence: Residence) -> None:
        """The model is unloaded for good, also what its worker kept of it."""
        await self.leave(residence)
        if residence.kept:
            residence.kept = False
            await self._mover.unload(residence.model)

    async def _leave(self, residence: Residence) -> None:
        leaked = 0
        try:
            if residence.closed or not residence.settled:
                residence.kept = False
                leaked = await self._mover.unload(residence.model)
            else:
                leaked = await self._mover.demote(residence.model)
        finally:
            residence.demotion = None
            if leaked and residence.device is not None:
                self._keep_leak(residence, residence.device, leaked)
            residence.free_device()
            self._changed()

    def _keep_leak(self, residence: Residence, reservation: Reservation, leaked: int) -> None:
        """Bytes that did not come back stay in the ledger until their process is replaced."""
        reservation.resize(min(leaked, reservation.nbytes))
        self._leaks.append((residence.model.worker, reservation))
        residence.device = None
        log.error("leaked", extra={"model": residence.model.info.name, "nbytes": leaked})

    def forgive(self, worker: str) -> None:
        """The process of that name was replaced, and with it came back what it had leaked."""
        for _, reservation in [leak for leak in self._leaks if leak[0] == worker]:
            reservation.release()
        self._leaks = [leak for leak in self._leaks if leak[0] != worker]
        self._changed()
