"""One worker process of a device as the front sees it: its models, and its slots for batches.

Main workers carry what no other has to: one for each GPU, or several that share the CPU's cores. Workers for
graphs carry TorchScript, and ONNX on a CPU: a graph can lose the device for its process by one index out of
range, or crash it. A model that ended its worker's process gets a worker for itself.
"""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple, Protocol, Self

from model_handler.artifacts import tasks
from model_handler.engine.queues import BatchSlots, WorkerLoad, WorkQueue
from model_handler.messages import Ready
from model_handler.model import Model
from model_handler.processes.deaths import Death
from model_handler.processes.supervisor import Supervisor
from model_handler.sharing.turnstile import GENERATIONS

GRAPHS = "graphs"
GRACE_S = 30.0  # for a late batch of a main worker, whose end costs all models
OTHERS_GRACE_S = 10.0  # of a worker for graphs or for one model, which others wait for or need less

Place = tuple[WorkQueue, BatchSlots]  # where a model's batches wait, and where they run


class Supervise(Protocol):
    """Creates the supervisor of a worker of that device, not started; for the rest see Supervisor."""

    def __call__(
        self,
        device: str,
        on_ready: Callable[[Ready], None],
        on_lost: Callable[[], None],
        on_examined: Callable[[Death], bool],
        *,
        alone: bool = False,
    ) -> Supervisor: ...


class WorkQueues(NamedTuple):
    """The work of one or several workers: short forwards, and generations, which take many steps each."""

    short: WorkQueue
    generating: WorkQueue

    @classmethod
    def new(cls) -> Self:
        return cls(WorkQueue(), WorkQueue())


class DeviceWorker:
    """`name`: unique in its engine. `device`, `grace_s`: see BatchSlots.

    `work_queues`: those that it takes part in. `models`: ids of those at home here, on the device or demoted.
    """

    def __init__(
        self,
        name: str,
        device: str,
        supervisor: Supervisor,
        work_queues: WorkQueues,
        grace_s: float = GRACE_S,
    ) -> None:
        self.name = name
        self.device = device
        self.supervisor = supervisor
        self.work_queues = work_queues
        self.models: set[int] = set()
        slots = partial(
            BatchSlots,
            supervisor,
            grace_s=grace_s,
            name=name,
            device=device,
            load=WorkerLoad(),
            shares_cores=True,
        )
        # The process lets short batches pass between the tokens of a generating model
        self._slots = slots(), slots(depth=GENERATIONS, each=1)
        for work_queue, its_slots in zip(work_queues, self._slots, strict=True):
            work_queue.slots.append(its_slots)

    @property
    def batches(self) -> int:
        """In flight."""
        return self._slots[0].load.in_flight

    def total_s(self) -> float:
        """See WorkerLoad."""
        return self._slots[0].load.total_s

    def recent_s(self, now: float) -> float:
        """See WorkerLoad."""
        return self._slots[0].load.recent_s(now)

    def place(self, model: Model) -> Place:
        """Where the model's batches wait and run."""
        kind = tasks.generates(model.artifact.task)
        return self.work_queues[kind], self._slots[kind]
