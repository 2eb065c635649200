"""What happens when a process dies: the ledger is put right, and its models are brought back.

Always true: a model whose return keeps ending the device's process is given up, so that it cannot take
the others along for ever; one that has a process of its own only ever harms itself.
"""

import asyncio
import logging
from collections.abc import Callable
from contextlib import suppress

from model_handler.errors import EngineError, WorkerDied
from model_handler.isolated import Isolated
from model_handler.metrics import Metrics
from model_handler.model import Model, State
from model_handler.residency import Residency
from model_handler.scheduler import Scheduler
from model_handler.workers import Workers

log = logging.getLogger(__name__)
STRIKES = 2  # processes of the device that a model may take down while it is being restored


class Recovery:
    """`forget` is called with a model that cannot be restored, and the reason."""

    def __init__(
        self,
        workers: Workers,
        residency: Residency,
        scheduler: Scheduler,
        metrics: Metrics,
        forget: Callable[[Model, str], None],
    ) -> None:
        self._workers = workers
        self._residency = residency
        self._scheduler = scheduler
        self._metrics = metrics
        self._forget = forget
        self._restoring: asyncio.Task[None] | None = None
        self._under_restore: Model | None = None
        self._strikes: dict[int, int] = {}
        self._revivals: set[asyncio.Task[None]] = set()

    def stop(self) -> None:
        for task in (self._restoring, *self._revivals):
            if task is not None:
                task.cancel()

    def dismiss(self, model: Model) -> None:
        """The model is gone for good."""
        self._strikes.pop(model.model_id, None)

    # ---- the device's process ----

    def device_ready(self) -> None:
        self._restoring = asyncio.create_task(self._restore())

    def device_lost(self) -> None:
        if self._restoring is not None:
            self._restoring.cancel()
        self._lost([model for model in self._residency.models() if not model.isolated])
        self._residency.forgive()
        suspect, self._under_restore = self._under_restore, None
        if suspect is not None:
            self._strike(suspect)

    def _lost(self, models: list[Model]) -> None:
        self._metrics.worker_restarts.inc()
        self._residency.lost(models)
        self._scheduler.lost(models)

    async def _restore(self) -> None:
        """Bring back what was on the lost device, the most recently used first."""
        for model in self._residency.displaced():
            if model.state is not State.READY or model.isolated:
                continue
            self._under_restore = model
            try:
                await self._residency.promote(model)
            except WorkerDied:
                return  # the next worker starts over
            except EngineError as error:
                self._forget(model, str(error))
            self._under_restore = None
        for lane in (self._workers.device_lane, self._workers.generating_lane):
            self._scheduler.pump(lane)

    def _strike(self, model: Model) -> None:
        strikes = self._strikes.get(model.model_id, 0) + 1
        self._strikes[model.model_id] = strikes
        if strikes >= STRIKES:
            self._forget(model, "its load ended the worker repeatedly")

    # ---- processes of isolated models ----

    def isolated_lost(self, process: Isolated) -> None:
        models = list(process.models.values())
        self._lost(models)
        revival = asyncio.create_task(self._revive(process, models))
        self._revivals.add(revival)
        revival.add_done_callback(self._revivals.discard)

    async def _revive(self, process: Isolated, models: list[Model]) -> None:
        """At once, unless it dies again and again: then the next request is the next attempt."""
        await process.fate()
        for model in models:
            if model.state is State.READY and not process.hopeless:
                with suppress(EngineError):  # it is in the log, and whoever asks next will hear it
                    await self._residency.promote(model)
                self._scheduler.pump(self._workers.lane(model))
