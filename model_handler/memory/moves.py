"""Moves of models between memory tiers. Each move is one task, which cancellation cannot leave half done.

Invariant: a model makes one move at a time, and every move ends.
"""

import asyncio
import logging
from collections.abc import Callable
from typing import Protocol

from model_handler.background import in_background
from model_handler.errors import ModelNotFound
from model_handler.memory.lease import Residence
from model_handler.memory.pools import Footprint, Reservation
from model_handler.model import Model

log = logging.getLogger(__name__)


class Mover(Protocol):
    """Sends the commands that move weights to the workers; raises EngineErrors."""

    async def load(self, model: Model) -> Footprint:
        """Load the model onto the device. Returns its measured memory there."""
        ...

    async def demote(self, model: Model) -> int:
        """Free the model's device memory and keep what makes its next `load` cheap. Returns as `unload`."""
        ...

    async def unload(self, model: Model) -> int:
        """Free all memory of the model, if necessary by ending its process. Returns the bytes that it still
        holds on the device afterwards."""
        ...

    async def trim(self) -> int | None:
        """Return the unused memory of the processes to the device. Returns the bytes that its driver reports
        as free, or None if they are unknown."""
        ...

    def end(self, model: Model, reason: str) -> None:
        """End the process of an isolated model."""
        ...


class Moves:
    """`changed` is called when memory was released."""

    def __init__(self, mover: Mover, changed: Callable[[], None]) -> None:
        self._mover = mover
        self._changed = changed
        self._leaks: list[tuple[str, Reservation]] = []  # with the worker that holds the bytes

    async def arrive(self, residence: Residence) -> Footprint:
        """Load the model onto the device. Raises ModelNotFound if it was unloaded meanwhile."""
        residence.arriving = asyncio.create_task(self._load(residence))
        try:
            return await residence.arriving
        except asyncio.CancelledError:
            raise ModelNotFound("the model was unloaded") from None
        finally:
            residence.arriving = None

    async def _load(self, residence: Residence) -> Footprint:
        residence.lost = False
        return await self._mover.load(residence.model)

    async def leave(self, *residences: Residence) -> None:
        """Demote the models and wait. Those that are closed or were never on the device are unloaded instead.

        After this call none of them can be leased, even while the first one is still being demoted.
        """
        for residence in residences:
            if residence.demotion is None and residence.device is not None:
                residence.descend()
                residence.demotion = in_background(self._leave(residence))
        demotions = [one.demotion for one in residences if one.demotion is not None]
        if demotions:
            await asyncio.wait(demotions)

    def relocate(self, residence: Residence, former: Model) -> None:
        """Free a model in its former worker once its leases have ended. A model that cannot be demoted keeps
        its reservation."""
        residence.descend()
        residence.demotion = in_background(self._relocate(residence, former))

    async def _relocate(self, residence: Residence, former: Model) -> None:
        try:
            while residence.leases:
                await residence.others.changed()
            residence.kept = False
            await self._mover.unload(former)
        except Exception:
            log.critical("relocation failed", exc_info=True, extra=_facts(residence))
        finally:
            residence.demotion = None
            if residence.demotable:
                residence.free_device()
            self._changed()

    async def drop(self, residence: Residence) -> None:
        """Unload the model, including what its worker kept after a demotion."""
        await self.leave(residence)
        if residence.kept:
            residence.kept = False
            await self._mover.unload(residence.model)

    async def _leave(self, residence: Residence) -> None:
        leaked = 0
        try:
            residence.kept = _worth_keeping(residence)
            if residence.kept:
                leaked = await self._mover.demote(residence.model)
            else:
                leaked = await self._mover.unload(residence.model)
        except Exception:
            log.critical("demotion failed", exc_info=True, extra=_facts(residence))
        finally:
            residence.demotion = None
            if leaked and residence.device is not None:
                self._keep_leak(residence, residence.device, leaked)
            residence.free_device()
            self._changed()

    def _keep_leak(self, residence: Residence, reservation: Reservation, leaked: int) -> None:
        """Keep bytes that were not released reserved until their process is replaced."""
        reservation.resize(min(leaked, reservation.nbytes))
        self._leaks.append((residence.model.worker, reservation))
        residence.device = None
        log.error("leaked", extra={"model": residence.model.info.name, "nbytes": leaked})

    def release_leaks(self, worker: str) -> None:
        """Release the leaks of a worker whose process was replaced."""
        for _, reservation in [leak for leak in self._leaks if leak[0] == worker]:
            reservation.release()
        self._leaks = [leak for leak in self._leaks if leak[0] != worker]
        self._changed()


def _facts(residence: Residence) -> dict[str, object]:
    return {"model": residence.model.info.name}


def _worth_keeping(residence: Residence) -> bool:
    """Whether its worker keeps handler and modules: on a GPU, where the weights are most of the memory."""
    lives_on = residence.settled and not residence.closed
    return lives_on and residence.demotable and residence.host is not None
