"""The parts of the engine that need to know the devices, composed when the first worker is ready."""

import asyncio
from collections.abc import Iterator
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass

from model_handler.engine.admission import QueueBounds
from model_handler.engine.device_worker import DeviceWorker
from model_handler.engine.fleet import Fleet
from model_handler.engine.placement import DeviceRoom, preferred
from model_handler.engine.recovery import Recovery
from model_handler.engine.scheduler import Scheduler
from model_handler.errors import EngineError, InsufficientMemory, Unavailable, unloading
from model_handler.memory.pools import MemoryPool
from model_handler.memory.residency import Residency
from model_handler.model import Model
from model_handler.processes.supervisor import Supervisor


@dataclass(frozen=True, slots=True)
class Core:
    """`kind` of the devices: cpu or cuda. `fleets` and `residencies`: by device. `starting`: supervisors of
    main workers that were not ready yet; `factory` adds them to the fleets when they are."""

    kind: str
    fleets: dict[str, Fleet]
    residencies: dict[str, Residency]
    scheduler: Scheduler
    recovery: Recovery
    starting: list[Supervisor]

    def mains(self) -> Iterator[DeviceWorker]:
        for fleet in self.fleets.values():
            yield from fleet.mains

    def sickness(self) -> str | None:
        """Why no main worker runs, after several failed starts of each; None otherwise."""
        reasons = [main.supervisor.sickness() for main in self.mains()]
        return None if None in reasons else reasons[0]

    async def available(self) -> None:
        """Return when a main worker runs. Raises Unavailable after several failed starts."""
        await min(self.mains(), key=_readiness).supervisor.available()

    def pools(self) -> list[MemoryPool]:
        """One for each device, and main memory once."""
        pools = [residency.device for residency in self.residencies.values()]
        host = next(iter(self.residencies.values())).host
        return pools if host is None else [*pools, host]

    # ---- models ----

    async def admit(self, model: Model, bounds: QueueBounds) -> None:
        """Return when the model can serve. After any error nothing of it remains.

        Raises InsufficientMemory if no device has room for it, Unavailable if no worker starts.
        """
        refused: EngineError = Unavailable("no worker starts")
        for device in preferred(self._rooms(), model.artifact.nbytes):
            try:
                await self._admit_to(device, model, bounds)
            except InsufficientMemory as error:
                refused = error
            except Unavailable as error:
                refused = refused if isinstance(refused, InsufficientMemory) else error
            else:
                return
        raise refused

    async def _admit_to(self, device: str, model: Model, bounds: QueueBounds) -> None:
        fleet, residency = self.fleets[device], self.residencies[device]
        async with AsyncExitStack() as undo:
            undo.callback(fleet.dismiss, model)
            work_queue, slots = fleet.assign(model)
            await residency.admit(model, model.artifact.nbytes, fleet.overhead(model))
            undo.push_async_callback(residency.vacate, model)
            self.scheduler.open(model, work_queue, slots, bounds)
            undo.pop_all()

    def _rooms(self) -> Iterator[DeviceRoom]:
        for name, fleet in self.fleets.items():
            running = any(main.supervisor.running for main in fleet.mains)
            failing = all(main.supervisor.failing for main in fleet.mains)
            batches = sum(main.batches for main in fleet.mains)
            yield DeviceRoom(name, running, failing, batches, self.residencies[name].device.free)

    async def remove(self, model: Model, drain_s: float) -> None:
        """Unload the model; return when all workers have freed it. Requests that have no answer after
        `drain_s` seconds get ModelUnloading."""
        with suppress(TimeoutError):
            async with asyncio.timeout(drain_s):
                await self.scheduler.drained(model)
        self.scheduler.abandon(model, unloading(model.info.name))
        fleet = self.fleets[self.scheduler.device(model)]
        fleet.interrupt(model, "unloaded while it computes")
        await self.scheduler.drained(model)
        try:
            await self.scheduler.close(model)
        finally:
            fleet.dismiss(model)

    async def stop(self) -> None:
        """End all workers, without recovery."""
        self.recovery.stop()
        for fleet in self.fleets.values():
            await fleet.stop()
        for supervisor in [*self.starting]:
            await supervisor.stop()


def _readiness(main: DeviceWorker) -> tuple[bool, bool]:
    return not main.supervisor.running, main.supervisor.failing
