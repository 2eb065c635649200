"""Recovery from dead processes: corrects the ledger and restores the models.

Invariants: no model can end the process of other models again and again: one that is proven to have done so
once, or that was at work in two deaths in a row, gets a process of its own. No model is unloaded because
processes died.
"""

import asyncio
import logging
from collections.abc import Callable, Coroutine, Mapping
from contextlib import suppress
from typing import Any

from model_handler.background import in_background
from model_handler.engine.device_worker import DeviceWorker, Place
from model_handler.engine.fleet import Fleet
from model_handler.engine.metrics import Metrics
from model_handler.engine.placement import STRIKES
from model_handler.engine.scheduler import Scheduler
from model_handler.errors import EngineError, InsufficientMemory, Unavailable
from model_handler.memory.residency import Residency
from model_handler.model import Model
from model_handler.processes.deaths import Death
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
        self._to_move: dict[str, list[Model]] = {}  # by worker: to move when it is ready
        self._suspected: set[int] = set()  # model_ids at work in a death without proof
        self._revivals: set[asyncio.Task[None]] = set()

    def stop(self) -> None:
        for task in (*self._restoring.values(), *self._revivals):
            task.cancel()

    # ---- workers of the device ----

    def device_ready(self, worker: DeviceWorker) -> None:
        for model in self._to_move.pop(worker.name, ()):
            self._set_apart(model)
        self._restoring[worker.name] = in_background(self._restore(worker))

    def device_lost(self, worker: DeviceWorker) -> None:
        if (restoring := self._restoring.pop(worker.name, None)) is not None:
            restoring.cancel()
        residency = self._residencies[worker.device]
        self._lost(residency, [one for one in residency.models() if one.worker == worker.name])
        residency.release_leaks(worker.name)
        self._revive_later(self._pass_on(worker))

    def examined(self, worker: DeviceWorker, death: Death) -> bool:
        """Blame the models that caused the death of a worker. Returns whether any model explains it.

        An id without a model is that of a first load, which is refused, or of an unload: what is new is
        suspected before what has served.
        """
        suspects = [self._scheduler.model(one) for one in sorted(death.suspects)]
        models = [one for one in suspects if one is not None]
        if len(models) < len(suspects):
            return True
        blamed = models if death.proven else self._suspected_again(worker, models)
        for model in blamed:
            self._blame(model, worker, death)
        return bool(blamed)

    def _suspected_again(self, worker: DeviceWorker, models: list[Model]) -> list[Model]:
        """Those that were at work in the last death of a worker that they were open in, too."""
        again = [one for one in models if one.model_id in self._suspected]
        here = {
            one.model_id
            for one in self._residencies[worker.device].models()
            if one.worker == worker.name
        }
        known = {one for one in self._suspected if self._scheduler.model(one) is not None}
        self._suspected = known - here | {one.model_id for one in models if one not in again}
        return again

    def _blame(self, model: Model, worker: DeviceWorker, death: Death) -> None:
        """The model goes on in a process of its own. After a failure that may be the device's own, once the
        device has started another process."""
        model.strikes += 1
        facts = {"model": model.info.name, "strikes": model.strikes, "reason": death.reason}
        log.error("blamed", extra=facts)
        if death.poisoned:
            self._to_move.setdefault(worker.name, []).append(model)
        else:
            self._set_apart(model)

    async def _pass_on(self, worker: DeviceWorker) -> None:
        """While no other worker starts in place of a lost one, let waiting models be opened elsewhere."""
        supervisor = worker.supervisor
        while not (supervisor.running or supervisor.stopped or supervisor.sickness()):
            await supervisor.attempted()
            if supervisor.failing:  # the device itself is lost, and no model's fault
                self._to_move.pop(worker.name, None)
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
            try:
                await residency.promote(model)
            except Unavailable:
                return  # the next worker starts over
            except InsufficientMemory:
                continue  # its next request is the next attempt
            except EngineError as error:
                self._forget(model, str(error))
        for work_queue in worker.work_queues:
            self._scheduler.pump(work_queue)

    def _fleet(self, model: Model) -> Fleet:
        return self._fleets[self._scheduler.device(model)]

    def _set_apart(self, model: Model) -> None:
        """Give the model a process of its own, unless it has one."""
        if not model.ready or self._fleet(model).is_apart(model):
            return
        log.error("moved to a process of its own", extra={"model": model.info.name})
        model.strikes = max(model.strikes, STRIKES)
        former = model.twin(0, model.worker)
        place = self._fleet(model).apart(model)
        self._residencies[self._scheduler.device(model)].relocate(model, former)
        self._revive_later(self._go_on_apart(model, place))

    async def _go_on_apart(self, model: Model, place: Place) -> None:
        fleet, residency = self._fleet(model), self._residencies[self._scheduler.device(model)]
        await self._scheduler.move(model, *place)
        if not model.ready or (overhead := fleet.overhead(model)) is None:
            return
        try:
            with suppress(InsufficientMemory):  # better uncounted than among the others
                await residency.hold(model, overhead)
            await residency.promote(model)
        except (Unavailable, InsufficientMemory):
            return  # its next request is the next attempt
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
