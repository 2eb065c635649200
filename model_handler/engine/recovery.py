"""Recovery from dead processes: corrects the ledger and restores the models.

Invariant: no model can end the process of other models again and again. A model whose batches lost the
device twice gets a process of its own; a model whose restore did so twice is unloaded.
"""

import asyncio
import logging
from collections.abc import Callable, Coroutine, Mapping
from contextlib import suppress
from typing import Any

from model_handler.background import in_background
from model_handler.engine.device_worker import DeviceWorker
from model_handler.engine.fleet import Fleet
from model_handler.engine.metrics import Metrics
from model_handler.engine.placement import STRIKES
from model_handler.engine.scheduler import Scheduler
from model_handler.errors import EngineError, WorkerDied
from model_handler.memory.residency import Residency
from model_handler.model import Model
from model_handler.processes.isolated_process import IsolatedProcess

log = logging.getLogger(__name__)


class Recovery:
    """`fleets` and `residencies`: by device. `forget` is called with a model that cannot be restored, and the
    reason."""

    def __init__(
        self,
        fleets: Mapping[str, Fleet],
        residencies: Mapping[str, Residency],
        scheduler: Scheduler,
        metrics: Metrics,
        forget: Callable[[Model, str], None],
    ) -> None:
        self._fleets = fleets
        self._residencies = residencies
        self._scheduler = scheduler
        self._metrics = metrics
        self._forget = forget
        self._restoring: dict[str, asyncio.Task[None]] = {}  # by worker
        self._under_restore: dict[str, Model] = {}
        self._revivals: set[asyncio.Task[None]] = set()

    def stop(self) -> None:
        for task in (*self._restoring.values(), *self._revivals):
            task.cancel()

    # ---- workers of the device ----

    def device_ready(self, worker: DeviceWorker) -> None:
        self._restoring[worker.name] = in_background(self._restore(worker))

    def device_lost(self, worker: DeviceWorker, culprit: int) -> None:
        """`culprit`: the model_id whose load or batch lost the device; 0 where that is not known."""
        if (restoring := self._restoring.pop(worker.name, None)) is not None:
            restoring.cancel()
        residency = self._residencies[worker.device]
        self._lost(residency, [one for one in residency.models() if one.worker == worker.name])
        residency.release_leaks(worker.name)
        suspect = self._under_restore.pop(worker.name, None)
        blamed = self._scheduler.model(culprit)
        if blamed is not None:
            self._strike(blamed, worker, restored=blamed is suspect)
        elif suspect is not None and not culprit and not worker.batches:
            self._strike(suspect, worker, restored=True)
        self._revive_later(self._pass_on(worker))

    async def _pass_on(self, worker: DeviceWorker) -> None:
        """While no other worker starts in place of a lost one, let waiting models be opened elsewhere."""
        supervisor = worker.supervisor
        while not supervisor.running and supervisor.sickness() is None:
            await supervisor.attempted()
            for work_queue in worker.work_queues:
                self._scheduler.pump(work_queue)
        self._give_up(worker.device)

    def _give_up(self, device: str) -> None:
        """Forget models of a device that was lost for good if they cannot be opened on another one: those in
        processes of their own. The platform loads them again, on another device."""
        fleet = self._fleets[device]
        if not fleet.sick or all(one.sick for one in self._fleets.values()):
            return
        for model in self._residencies[device].models():
            if fleet.stranded(model):
                self._forget(model, "its device was lost")

    def _lost(self, residency: Residency, models: list[Model]) -> None:
        self._metrics.worker_restarts.inc()
        residency.lost(models)
        self._scheduler.lost(models)

    async def _restore(self, worker: DeviceWorker) -> None:
        """Bring back what was at home in the lost worker, the most recently used first."""
        residency = self._residencies[worker.device]
        for model in residency.displaced():
            if not model.ready or model.worker != worker.name:
                continue
            self._under_restore[worker.name] = model
            try:
                await residency.promote(model)
            except WorkerDied:
                return  # the next worker starts over
            except EngineError as error:
                self._forget(model, str(error))
            self._under_restore.pop(worker.name, None)
        for work_queue in worker.work_queues:
            self._scheduler.pump(work_queue)

    def _strike(self, model: Model, worker: DeviceWorker, *, restored: bool) -> None:
        """A model that lost the device twice by computing goes on in a process of its own; one that does
        by its load cannot be restored."""
        model.strikes += 1
        log.error("blamed", extra={"model": model.info.name, "strikes": model.strikes})
        if model.strikes < STRIKES or not model.ready:
            return
        if restored:
            self._forget(model, "its load ended the worker repeatedly")
        elif worker.models - {model.model_id} or self._has_neighbours(model):
            self._revive_later(self._move_apart(model))

    def _has_neighbours(self, model: Model) -> bool:
        """Whether other models are in the worker of its home."""
        home = self._fleet(model).carrier(model)
        residency = self._residencies[home.device]
        here = {one.model_id for one in residency.models() if one.worker == home.name}
        return len(here | home.models) > 1

    def _fleet(self, model: Model) -> Fleet:
        return self._fleets[self._scheduler.device(model)]

    async def _move_apart(self, model: Model) -> None:
        if not model.ready:
            return
        log.error("moved to a process of its own", extra={"model": model.info.name})
        fleet, residency = self._fleet(model), self._residencies[self._scheduler.device(model)]
        former = model.twin(0, model.worker)
        place = fleet.apart(model)
        residency.relocate(model, former)
        await self._scheduler.move(model, *place)
        try:
            overhead = fleet.overhead(model)
            assert overhead is not None
            await residency.hold(model, overhead)
            await residency.promote(model)
        except WorkerDied:
            return  # its own worker's next start brings it back
        except EngineError as error:
            self._forget(model, str(error))
        self._scheduler.pump(fleet.work_queue(model))

    # ---- processes of isolated models ----

    def isolated_lost(self, device: str, process: IsolatedProcess) -> None:
        models = list(process.models.values())
        self._lost(self._residencies[device], models)
        self._revive_later(self._revive(device, process, models))

    def _revive_later(self, work: Coroutine[Any, Any, None]) -> None:
        task = in_background(work)
        self._revivals.add(task)
        task.add_done_callback(self._revivals.discard)

    async def _revive(self, device: str, process: IsolatedProcess, models: list[Model]) -> None:
        """At once, unless it dies again and again: then the next request is the next attempt."""
        await process.failure()
        for model in models:
            if model.ready and not process.backing_off:
                with suppress(EngineError):  # it is in the log, and the next request gets it
                    await self._residencies[device].promote(model)
                self._scheduler.pump(self._fleets[device].work_queue(model))
        self._give_up(device)
