"""Which process of one device carries which model: a main worker, one for graphs, or a process of its own.

Invariant: between `assign` and `dismiss` a model has one home. Artifacts that bring code have a process and
a work queue of their own, so that their code does not delay other models. A graph that crashes ends a worker
for graphs only. While there are graphs, a GPU has one such worker, and a CPU as many as main workers.
"""

import asyncio
import logging
from collections.abc import Callable, Iterator
from functools import partial
from typing import Protocol

from model_handler.artifacts.conventions import Convention
from model_handler.artifacts.properties import Isolation
from model_handler.background import in_background
from model_handler.engine.device_worker import GRAPHS, DeviceWorker, Place, WorkQueues
from model_handler.engine.queues import BatchSlots, WorkQueue
from model_handler.errors import EngineError
from model_handler.memory.overheads import Overhead
from model_handler.memory.pools import Footprint
from model_handler.model import Model
from model_handler.options import ProcessOptions
from model_handler.processes.isolated_process import IsolatedProcess
from model_handler.processes.prefork import PreforkPool
from model_handler.processes.quarantine import Quarantine
from model_handler.processes.users import ModelUsers

log = logging.getLogger(__name__)
GRACE_S = 1.0  # past its deadline an isolated model's process can be ended without harm to others
BUSY_S = 0.1  # steps in which the recent compute time of workers is compared
SHARED = "(shared)"
ISOLATED = "isolated"  # name of the slots of all isolated processes
# XGBoost and scikit-learn stay in main workers: their files hold data that is checked, and no operators
GRAPHS_ON_GPU = frozenset({Convention.TORCHSCRIPT})
GRAPHS_ON_CPU = GRAPHS_ON_GPU | {Convention.ONNX}


class Spawn(Protocol):
    def __call__(
        self, name: str, work_queues: WorkQueues, *, alone: bool = False
    ) -> DeviceWorker: ...


class Fleet:
    """Moves models for Residency, and provides the places of their batches.

    `main`: a worker that is ready; on a CPU others join it. `spawn` creates another worker, not started,
    that takes part in these queues; `alone`: for one model, see Supervisor.
    `on_isolated_lost` is called when an isolated process ended with models loaded.
    """

    def __init__(
        self,
        main: DeviceWorker,
        options: ProcessOptions,
        spawn: Spawn,
        spares: PreforkPool,
        quarantine: Quarantine,
        on_isolated_lost: Callable[[IsolatedProcess], None],
        users: ModelUsers,
    ) -> None:
        self.mains = [main]
        self._options = options
        self._spawn = spawn
        self._spares = spares
        self._quarantine = quarantine
        self._on_isolated_lost = on_isolated_lost
        self._users = users
        self._others: dict[str, DeviceWorker] = {}
        self._graphs: list[DeviceWorker] = []  # those of the others that are for graphs
        self._isolated: dict[int, IsolatedProcess] = {}
        self._places: dict[IsolatedProcess, Place] = {}
        self._shared: IsolatedProcess | None = None
        self._ending: set[asyncio.Task[None]] = set()

    async def stop(self) -> None:
        """End all processes, without recovery."""
        self._spares.close()
        await self._quarantine.stop()
        for process in self._places:
            process.stop()
        for worker in [*self._others.values()]:
            if worker.name in self._others:
                await self._end(worker)
        for worker in self.mains:
            await worker.supervisor.stop()
        await self._users.stop()

    @property
    def sick(self) -> bool:
        """No main worker runs, after several failed starts of each."""
        return all(main.supervisor.sickness() is not None for main in self.mains)

    def stranded(self, model: Model) -> bool:
        """Whether the model is in a process of its own, or in one for graphs, that does not run."""
        if (process := self._isolated.get(model.model_id)) is not None:
            return not process.running
        other = self._others.get(model.worker)
        return other is not None and not other.supervisor.running

    def join(self, main: DeviceWorker) -> None:
        """Add a main worker."""
        self.mains.append(main)

    # ---- models ----

    def assign(self, model: Model) -> Place:
        """Choose the model's home, and return the place of its batches."""
        if not model.isolated:
            worker = self._home(model)
            try:
                self._users.admit(model, worker if worker.name == self._own_name(model) else None)
            except EngineError:
                self._end_soon_if_unused(worker)
                raise
            return self._carry(model, worker)
        process = self._process_for(model)
        try:
            self._users.admit(model, process)
        except EngineError:
            if process not in self._isolated.values():
                self._forget(process)
            raise
        self._isolated[model.model_id] = process
        return self._places[process]

    def apart(self, model: Model) -> Place:
        """Move the model to a device worker of its own, which starts with its next load."""
        self.carrier(model).models.discard(model.model_id)
        worker = self._own(model)
        try:
            self._users.admit(model, worker)
        except EngineError as error:  # better with the user of the others than not at all
            facts = {"model": model.info.name, "reason": str(error)}
            log.error("no user of its own", extra=facts)
        return self._carry(model, worker)

    def is_apart(self, model: Model) -> bool:
        """Whether the model has a device worker of its own."""
        return model.worker == self._own_name(model)

    def overhead(self, model: Model) -> Overhead | None:
        """The memory of the model's process itself, or of all processes for graphs; None where that is
        counted otherwise."""
        if model.isolated or model.worker not in self._others:
            return None
        nbytes, graphs = self._options.worker_nbytes, self._graphs
        if self._others[model.worker] in graphs:
            return Overhead(graphs[0].name, nbytes * len(graphs))
        return Overhead(model.worker, nbytes)

    def dismiss(self, model: Model) -> None:
        """Forget a model that was unloaded; end a process that has no model left."""
        process = self._isolated.pop(model.model_id, None)
        self._users.dismiss(model)
        if process is not None and process not in self._isolated.values():
            self._forget(process)
        if process is None and model.worker:
            self._end_soon_if_unused(self._drop(model))

    def interrupt(self, model: Model, reason: str) -> None:
        """End what a model computes, if the process is its own."""
        if (process := self._isolated.get(model.model_id)) is not None:
            _, slots = self._places[process]
            if len(process.models) == 1 and slots.in_flight:
                process.replace(reason)
        elif self.is_apart(model) and self.carrier(model).batches:
            self.carrier(model).supervisor.replace(reason)

    def end(self, model: Model, reason: str) -> None:
        """End the process of a model with code of its own; the next request starts another one."""
        if (process := self._isolated.get(model.model_id)) is not None:
            process.replace(reason)

    def work_queue(self, model: Model) -> WorkQueue:
        process = self._isolated.get(model.model_id)
        place = self.carrier(model).place(model) if process is None else self._places[process]
        return place[0]

    def carrier(self, model: Model) -> DeviceWorker:
        """The device worker of a replica that is not isolated."""
        if model.worker in self._others:
            return self._others[model.worker]
        return next((main for main in self.mains if main.name == model.worker), self.mains[0])

    def _forget(self, process: IsolatedProcess) -> None:
        """Its last model was dismissed."""
        del self._places[process]
        if process is self._shared:
            self._shared = None
        self._users.ended(process)

    # ---- workers of the device ----

    def _home(self, model: Model) -> DeviceWorker:
        if model.artifact.properties.isolation is Isolation.OWN:
            return self._own(model)
        workers = self._for_graphs() if self._is_graph(model) else self.mains
        return min(workers, key=partial(_load, asyncio.get_running_loop().time()))

    def _is_graph(self, model: Model) -> bool:
        """ONNX computes on the CPU: beside a GPU it is not worth a further process, which holds a context."""
        return model.artifact.convention in (
            GRAPHS_ON_GPU if self._options.on_gpu else GRAPHS_ON_CPU
        )

    def _carry(self, model: Model, worker: DeviceWorker) -> Place:
        model.worker = worker.name
        worker.models.add(model.model_id)
        return worker.place(model)

    def _own_name(self, model: Model) -> str:
        return f"{self.mains[0].name} of {model.info.name}"

    def _own(self, model: Model) -> DeviceWorker:
        name = self._own_name(model)
        if name not in self._others:
            self._others[name] = self._spawn(name, WorkQueues.new(), alone=True)
        return self._others[name]

    def _for_graphs(self) -> list[DeviceWorker]:
        """The workers for graphs. On a CPU all start now: a hot graph can be opened in each of them."""
        if not self._graphs:
            work_queues = WorkQueues.new()
            for main in self.mains[:1] if self._options.on_gpu else self.mains:
                worker = self._spawn(f"{GRAPHS} of {main.name}", work_queues)
                self._others[worker.name] = worker
                self._graphs.append(worker)
                if not self._options.on_gpu:
                    worker.supervisor.start()
        return self._graphs

    def _drop(self, model: Model) -> DeviceWorker:
        worker = self.carrier(model)
        worker.models.discard(model.model_id)
        return worker

    def _end_soon_if_unused(self, worker: DeviceWorker) -> None:
        task = in_background(self._end_if_unused(worker))
        self._ending.add(task)
        task.add_done_callback(self._ending.discard)

    async def _end_if_unused(self, worker: DeviceWorker) -> None:
        if self._unused(worker):
            await self._end(worker)

    def _unused(self, worker: DeviceWorker) -> bool:
        if worker is not self._others.get(worker.name):
            return False
        return not any(one.models for one in self._together(worker))

    def _together(self, worker: DeviceWorker) -> list[DeviceWorker]:
        """The workers that end together with this one."""
        return self._graphs if worker in self._graphs else [worker]

    async def _end(self, worker: DeviceWorker) -> None:
        """Its name is free at once, for a process that has nothing to do with this one."""
        ending = self._together(worker)
        if ending is self._graphs:
            self._graphs = []
        for one in ending:
            del self._others[one.name]
        await asyncio.gather(*(one.supervisor.stop() for one in ending))
        for one in ending:
            self._users.ended(one)

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
        slots = BatchSlots(process, depth, GRACE_S, name=ISOLATED, device=self.mains[0].device)
        self._places[process] = WorkQueue(slots), slots
        return process

    # ---- moves ----

    async def load(self, model: Model) -> Footprint:
        process = self._isolated.get(model.model_id)
        other = process is not None or model.worker in self._others
        if self._options.on_gpu and other:
            for main in self.mains:  # what it holds unused is missing to another process
                await main.supervisor.trim()
        if process is not None:
            return await process.load(model)
        await self._quarantine.check(model)
        return await self._load_at_home(model)

    async def _load_at_home(self, model: Model) -> Footprint:
        """Load the model again if it got another worker meanwhile."""
        while True:
            carrier = self.carrier(model)
            carrier.supervisor.start()
            await carrier.supervisor.available()
            if carrier is not self.carrier(model):
                continue
            footprint = await carrier.supervisor.load(model)
            if carrier is self.carrier(model):
                return footprint
            await carrier.supervisor.unload(model)
            self._end_soon_if_unused(carrier)

    async def demote(self, model: Model) -> int:
        return await self.carrier(model).supervisor.demote(model)

    async def unload(self, model: Model) -> int:
        process = self._isolated.get(model.model_id)
        if process is not None:
            return await process.unload(model)
        worker = self.carrier(model)
        if not model.replica:
            self._drop(model)
        if self._unused(worker):
            await self._end(worker)
            return 0
        return await worker.supervisor.unload(model)

    async def trim(self) -> int | None:
        """The main workers come last: what the others gave back is in their figure."""
        free = None
        for worker in self._all():
            free = await worker.supervisor.trim()
        return free

    def _all(self) -> Iterator[DeviceWorker]:
        yield from [*self._others.values()]
        yield from self.mains


def _load(now: float, worker: DeviceWorker) -> tuple[bool, int, int]:
    """Least for the best home of a new model: opening a model delays the forwards of its worker."""
    busy = int(worker.recent_s(now) / BUSY_S)
    return not worker.supervisor.running, busy, len(worker.models)
