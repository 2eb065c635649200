"""One worker process of the device as the front sees it: its models, and the queues' way to it.

The first one, MAIN, carries what no other has to. GRAPHS carries TorchScript on a GPU: a graph can lose
the device for its process by one index out of range. A model that did so twice gets a process for itself.
"""

from collections.abc import Callable
from functools import partial

from model_handler.artifacts import tasks
from model_handler.engine.queues import WorkQueue
from model_handler.messages import Ready
from model_handler.model import Model
from model_handler.processes.supervisor import Supervisor
from model_handler.sharing.turnstile import GENERATIONS

MAIN = "device"
GRAPHS = "graphs"

# The supervisor of a further worker, not started: calls the first on Ready, the second on a loss
Supervise = Callable[[Callable[[Ready], None], Callable[[int], None]], Supervisor]


class DeviceWorker:
    """`models`: ids of those it carries, on the device or demoted.

    `on_ready` and `on_lost`: as those of its supervisor, with this worker before the argument.
    """

    def __init__(
        self,
        name: str,
        supervise: Supervise,
        on_ready: "Callable[[DeviceWorker, Ready], None]",
        on_lost: "Callable[[DeviceWorker, int], None]",
    ) -> None:
        self.name = name
        self.supervisor = supervise(partial(on_ready, self), partial(on_lost, self))
        self.models: set[int] = set()
        self._work_queue = WorkQueue(self.supervisor)
        # Of the same process, which lets short batches pass between the tokens of a generating model
        self._generating = WorkQueue(self.supervisor, depth=GENERATIONS, each=1)

    @property
    def work_queues(self) -> tuple[WorkQueue, WorkQueue]:
        return self._work_queue, self._generating

    @property
    def computing(self) -> bool:
        return any(work_queue.in_flight for work_queue in self.work_queues)

    def work_queue(self, model: Model) -> WorkQueue:
        generates = tasks.generates(model.artifact.task)
        return self._generating if generates else self._work_queue
