"""The parts of the engine that need to know the device, composed by `factory` when its worker is ready."""

import asyncio
from contextlib import suppress
from dataclasses import dataclass

from model_handler.engine.admission import QueueBounds
from model_handler.engine.fleet import Fleet
from model_handler.engine.recovery import Recovery
from model_handler.engine.scheduler import Scheduler, unloading
from model_handler.memory.residency import Residency
from model_handler.model import Model


@dataclass(frozen=True, slots=True)
class Core:
    """`device`: cpu or cuda."""

    device: str
    fleet: Fleet
    residency: Residency
    scheduler: Scheduler
    recovery: Recovery

    async def admit(self, model: Model, bounds: QueueBounds) -> None:
        """Return when the model can serve. After any error nothing of it remains."""
        work_queue = self.fleet.assign(model)
        try:
            await self.residency.admit(model, model.artifact.nbytes, self.fleet.overhead(model))
        except BaseException:
            self.fleet.dismiss(model)
            raise
        self.scheduler.open(model, work_queue, bounds)

    async def remove(self, model: Model, drain_s: float) -> None:
        """Unload the model; return when its memory is released. Requests that have no answer after `drain_s`
        seconds get ModelUnloading."""
        with suppress(TimeoutError):
            async with asyncio.timeout(drain_s):
                await self.scheduler.drained(model)
        self.scheduler.abandon(model, unloading(model.info.name))
        if model.isolated:
            self.fleet.interrupt(model, "unloaded while it computes")
        await self.scheduler.drained(model)
        self.scheduler.close(model)
        await self.residency.vacate(model)
        self.fleet.dismiss(model)

    async def stop(self) -> None:
        """End all processes but the main worker, without recovery."""
        self.recovery.stop()
        await self.fleet.stop()
