"""One worker process of the device as the front sees it: its models, and the queues' way to it.

The first one, MAIN, carries what no other has to. GRAPHS carries TorchScript on a GPU: a graph can lose
the device for its process by one index out of range. A model that did so twice gets a process for itself.
"""

from model_handler import tasks
from model_handler.model import Model
from model_handler.queues import Lane
from model_handler.supervisor import Supervisor
from model_handler.turnstile import GENERATIONS

MAIN = "device"
GRAPHS = "graphs"


class DeviceWorker:
    """`models`: ids of those it carries, on the device or demoted."""

    def __init__(self, name: str, supervisor: Supervisor) -> None:
        self.name = name
        self.supervisor = supervisor
        self.models: set[int] = set()
        self._lane = Lane(supervisor)
        # Of the same process, which lets short batches pass between the tokens of a generating model
        self._generating = Lane(supervisor, depth=GENERATIONS, each=1)

    @property
    def lanes(self) -> tuple[Lane, Lane]:
        return self._lane, self._generating

    @property
    def computing(self) -> bool:
        return any(lane.in_flight for lane in self.lanes)

    def lane(self, model: Model) -> Lane:
        generates = model.artifact is not None and tasks.generates(model.artifact.task)
        return self._generating if generates else self._lane
