"""Which process carries which model: the main device worker, or a process of its own.

Invariant: between `assign` and `dismiss` a model has one worker. Artifacts that bring code have a process
and a work queue of their own, so that their code does not delay other models.
"""

import asyncio
from collections.abc import Callable, Iterator

from model_handler.artifacts.conventions import Convention
from model_handler.artifacts.properties import Isolation
from model_handler.engine.device_worker import GRAPHS, MAIN, DeviceWorker
from model_handler.engine.queues import WorkQueue
from model_handler.memory.overheads import Overhead
from model_handler.memory.pools import Footprint
from model_handler.model import Model
from model_handler.options import ProcessOptions
from model_handler.processes.isolated_process import IsolatedProcess
from model_handler.processes.prefork import PreforkPool

GRACE_S = 1.0  # past its deadline an isolated model's process can be ended without harm to others
SHARED = "(shared)"


class Fleet:
    """Moves models for Residency, and provides the scheduler's work queues.

    `main`: the worker that runs already. `spawn` creates another one, not started. `on_isolated_lost` is
    called when an isolated process ended with models loaded.
    """

    def __init__(
        self,
        main: DeviceWorker,
        options: ProcessOptions,
        spawn: Callable[[str], DeviceWorker],
        spares: PreforkPool,
        on_isolated_lost: Callable[[IsolatedProcess], None],
    ) -> None:
        self.main = main
        self._options = options
        self._spawn = spawn
        self._spares = spares
        self._on_isolated_lost = on_isolated_lost
        self._others: dict[str, DeviceWorker] = {}
        self._isolated: dict[int, IsolatedProcess] = {}
        self._work_queues: dict[IsolatedProcess, WorkQueue] = {}
        self._shared: IsolatedProcess | None = None
        self._ending: set[asyncio.Task[None]] = set()

    async def stop(self) -> None:
        """End all processes but the main worker, without recovery."""
        self._spares.close()
        for process in self._work_queues:
            process.stop()
        for worker in [*self._others.values()]:
            await self._end(worker)

    # ---- models ----

    def assign(self, model: Model) -> WorkQueue:
        """The work queue for the model's batches."""
        if not model.isolated:
            return self._carry(model, self._worker(self._name(model)))
        process = self._process_for(model)
        self._isolated[model.model_id] = process
        return self._work_queues[process]

    def apart(self, model: Model) -> WorkQueue:
        """Move the model to a device worker of its own, which starts with its next load."""
        self.carrier(model).models.discard(model.model_id)
        return self._carry(model, self._worker(f"{MAIN} of {model.info.name}"))

    def overhead(self, model: Model) -> Overhead | None:
        """The device memory of the model's process itself; None where that is counted otherwise."""
        if model.isolated or model.worker == MAIN:
            return None
        return Overhead(model.worker, self._options.context_nbytes)

    def dismiss(self, model: Model) -> None:
        """Forget a model that was unloaded; end a process that has no model left."""
        process = self._isolated.pop(model.model_id, None)
        if process is not None and process not in self._isolated.values():
            del self._work_queues[process]
            if process is self._shared:
                self._shared = None
        if process is None and model.worker:
            self._end_soon_if_unused(self._drop(model))

    def interrupt(self, model: Model, reason: str) -> None:
        """End what an isolated model computes, if the process is its own."""
        process = self._isolated[model.model_id]
        if len(process.models) == 1 and self._work_queues[process].in_flight:
            process.replace(reason)

    def end(self, model: Model, reason: str) -> None:
        """End the process of a model with code of its own; the next request starts another one."""
        if (process := self._isolated.get(model.model_id)) is not None:
            process.replace(reason)

    def work_queue(self, model: Model) -> WorkQueue:
        process = self._isolated.get(model.model_id)
        return (
            self.carrier(model).work_queue(model) if process is None else self._work_queues[process]
        )

    def carrier(self, model: Model) -> DeviceWorker:
        """The device worker of a model that is not isolated."""
        return self._others.get(model.worker, self.main)

    # ---- workers of the device ----

    def _name(self, model: Model) -> str:
        graph = model.artifact.convention is Convention.TORCHSCRIPT
        return GRAPHS if graph and self._options.on_gpu else MAIN

    def _carry(self, model: Model, worker: DeviceWorker) -> WorkQueue:
        model.worker = worker.name
        worker.models.add(model.model_id)
        return worker.work_queue(model)

    def _worker(self, name: str) -> DeviceWorker:
        if name == MAIN:
            return self.main
        if name not in self._others:
            self._others[name] = self._spawn(name)
        return self._others[name]

    def _drop(self, model: Model) -> DeviceWorker:
        worker = self.carrier(model)
        worker.models.discard(model.model_id)
        return worker

    def _end_soon_if_unused(self, worker: DeviceWorker) -> None:
        task = asyncio.create_task(self._end_if_unused(worker))
        self._ending.add(task)
        task.add_done_callback(self._ending.discard)

    async def _end_if_unused(self, worker: DeviceWorker) -> None:
        if self._unused(worker):
            await self._end(worker)

    def _unused(self, worker: DeviceWorker) -> bool:
        return not worker.models and worker is self._others.get(worker.name)

    async def _end(self, worker: DeviceWorker) -> None:
        """Its name is free at once, for a process that has nothing to do with this one."""
        del self._others[worker.name]
        await worker.supervisor.stop()

    # ---- processes of isolated models ----

    def _process_for(self, model: Model) -> IsolatedProcess:
        properties = model.artifact.properties
        if properties.isolation is Isolation.SHARED:
            self._shared = self._shared or self._process(SHARED, 1, alone=False)
            return self._shared
        name = model.info.target or model.info.name
        return self._process(name, properties.concurrency or 1, alone=True)

    def _process(self, name: str, depth: int, *, alone: bool) -> IsolatedProcess:
        process = IsolatedProcess(
            name, self._spares, self._options, self._on_isolated_lost, alone=alone
        )
        self._work_queues[process] = WorkQueue(process, depth, GRACE_S)
        return process

    # ---- moves ----

    async def load(self, model: Model) -> Footprint:
        process = self._isolated.get(model.model_id)
        carrier = self.main if process is not None else self.carrier(model)
        if self._options.on_gpu and (process is not None or carrier is not self.main):
            await self.main.supervisor.trim()  # what it holds unused is missing to another process
        if process is not None:
            return await process.load(model)
        carrier.supervisor.start()
        return await carrier.supervisor.load(model)

    async def demote(self, model: Model) -> int:
        return await self.carrier(model).supervisor.demote(model)

    async def unload(self, model: Model) -> int:
        process = self._isolated.get(model.model_id)
        if process is not None:
            return await process.unload(model)
        worker = self._drop(model)
        if self._unused(worker):
            await self._end(worker)
            return 0
        return await worker.supervisor.unload(model)

    async def trim(self) -> int | None:
        """The main worker comes last: what the others gave back is in its figure."""
        free = None
        for worker in self._all():
            free = await worker.supervisor.trim()
        return free

    def _all(self) -> Iterator[DeviceWorker]:
        yield from [*self._others.values()]
        yield self.main
