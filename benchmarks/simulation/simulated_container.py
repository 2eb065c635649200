"""The real scheduler and Residency over simulated workers, behind a simulated front process."""

import asyncio
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from benchmarks.simulation.costs import Costs, FrontCosts, ModelCosts
from benchmarks.simulation.event_loop import Effect, SimulatedEventLoop
from benchmarks.simulation.machine import SimulatedMachine, SimulatedProcess
from benchmarks.simulation.simulated_worker import SimulatedWorker
from model_handler.artifacts.artifact import Artifact
from model_handler.artifacts.conventions import Convention
from model_handler.artifacts.properties import Properties
from model_handler.engine.admission import QueueBounds
from model_handler.engine.metrics import Metrics
from model_handler.engine.queues import BatchSlots, Cores, Job, WorkQueue
from model_handler.engine.scheduler import Scheduler
from model_handler.memory.pools import Footprint
from model_handler.memory.residency import Residency
from model_handler.messages import InferenceRequest
from model_handler.model import Entry, Model, ModelInfo

DEVICE = "cpu"
MEMORY_NBYTES = 1 << 50
BOUNDS = QueueBounds(limit=1024, batch_size=32)
DEADLINE_S = 1e6
USUAL_PUMP_S = 10e-6  # of one pump of the scheduler, part of `FrontCosts.batch_s`


class TimedScheduler(Scheduler):
    """`pump_s`: CPU time of all calls of `pump` so far, in this process; `extra_s`: the part of it that the
    measured costs of a batch do not contain, until it is taken."""

    pump_s = 0.0
    extra_s = 0.0

    def pump(self, work_queue: WorkQueue) -> None:
        began = time.thread_time()
        super().pump(work_queue)
        took_s = time.thread_time() - began
        self.pump_s += took_s
        self.extra_s += max(0.0, took_s - USUAL_PUMP_S)

    def take_extra_s(self) -> float:
        extra_s, self.extra_s = self.extra_s, 0.0
        return extra_s


class SimulatedContainer:
    """`kinds`: name of each model's costs, in the order of `model_id`s from 0.

    `front`: factor of the front's costs. `scan`: factor of what the scheduler's turns take more than usual.
    """

    def __init__(
        self,
        machine: SimulatedMachine,
        costs: Costs,
        kinds: Sequence[str],
        workers: int,
        cores: int,
        front: float = 1.0,
        scan: float = 1.0,
    ) -> None:
        self._scan = scan
        self._costs = FrontCosts(*(front * cost_s for cost_s in costs.front.seconds()))
        self.front = SimulatedEventLoop(SimulatedProcess(machine), self._costs.turn_s)
        models = {number: costs.models[kind] for number, kind in enumerate(kinds)}
        self._workers = {
            f"{DEVICE} {number}": SimulatedWorker(machine, models, self._answered)
            for number in range(1, workers + 1)
        }
        self.work_queue = WorkQueue(
            *(
                BatchSlots(worker, name=name, device=DEVICE, shares_cores=True)
                for name, worker in self._workers.items()
            )
        )
        self.residency = Residency(_Mover(self._workers), MEMORY_NBYTES, None)
        self.scheduler = TimedScheduler({DEVICE: self.residency}, Metrics(), Cores(cores))
        self._model_costs = models
        self.models: list[Model] = []
        self.answers = 0
        self.batches = 0

    async def load(self) -> None:
        """Load all models, each into the worker with the fewest models."""
        for number, costs in self._model_costs.items():
            slots = self.work_queue.slots[number % len(self.work_queue.slots)]
            model = _model(number, costs, slots.name)
            await self.residency.admit(model, costs.nbytes)
            self.scheduler.open(model, self.work_queue, slots, BOUNDS)
            self.models.append(model)

    def replicas(self) -> int:
        """Replicas beside the one that each load created."""
        return len(self.residency.models()) - len(self.models)

    async def invoke(self, number: int, tokens: int) -> None:
        """One request, from its arrival at the front to the end of the front's turn that answers it."""
        loop = asyncio.get_running_loop()
        arrived: asyncio.Future[None] = loop.create_future()
        self._post(self._costs.request_s / 2, lambda: arrived.set_result(None))
        await arrived
        request = InferenceRequest(str(tokens).encode())
        job = Job(request, loop.time() + DEADLINE_S, loop.create_future())
        await self.scheduler.submit(self.models[number], job)

    def _answered(self, rows: int, effect: Effect) -> None:
        self.answers += rows
        self.batches += 1
        self._post(self._costs.batch_s + rows * self._costs.request_s / 2, effect)

    def _post(self, cost_s: float, effect: Effect) -> None:
        self.front.post(cost_s + self._scan * self.scheduler.take_extra_s(), effect)


class _Mover:
    """Loads replicas into their workers. There is memory for all of them: a replica leaves only if its load
    is cancelled at the end of a run."""

    def __init__(self, workers: Mapping[str, SimulatedWorker]) -> None:
        self._workers = workers

    async def load(self, model: Model) -> Footprint:
        return await self._workers[model.worker].load(model)

    async def demote(self, model: Model) -> int:
        raise AssertionError(model.info.name)

    async def unload(self, model: Model) -> int:
        return 0

    async def trim(self) -> int | None:
        return None

    def end(self, model: Model, reason: str) -> None:
        raise AssertionError(reason)


def _model(number: int, costs: ModelCosts, worker: str) -> Model:
    path = Path(f"/{number}")
    artifact = Artifact(
        path, Convention.HUGGING_FACE, "text-classification", "auto", costs.nbytes, Properties()
    )
    model = Model(Entry(number, ModelInfo(str(number), str(path))), artifact)
    model.worker = worker
    return model
