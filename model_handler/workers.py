"""Which process carries which model: the device's own worker, but for artifacts that bring code.

Always true: between `assign` and `dismiss` a model has one worker; those of isolated models have a lane
of their own, so that nothing they do holds up the device's.
"""

from collections.abc import Callable
from pathlib import Path

from model_handler import tasks
from model_handler.forks import Forks
from model_handler.isolated import Isolated
from model_handler.model import Model
from model_handler.properties import Isolation
from model_handler.scheduler import Lane
from model_handler.spares import Spares
from model_handler.supervisor import Supervisor
from model_handler.turnstile import GENERATIONS

GRACE_S = 1.0  # past its deadline an isolated model's process can be ended without harm to others
SHARED = "(shared)"


class Workers:
    """Residency's mover, and where the scheduler's lanes come from."""

    def __init__(self, device: Supervisor, forks: Forks, matmul_precision: str = "highest") -> None:
        self.device = device
        self.device_lane = Lane(device)
        # Of the same worker, which lets short batches pass between the tokens of a generating one
        self.generating_lane = Lane(device, depth=GENERATIONS, each=1)
        self._spares = Spares(forks)
        self._matmul_precision = matmul_precision
        self._order: dict[str, object] = {}
        self._isolated: dict[int, Isolated] = {}
        self._lanes: dict[Isolated, Lane] = {}
        self._shared: Isolated | None = None
        self.on_lost: Callable[[Isolated], None] = lambda _: None
        self.on_growth: Callable[[Model, int], None] = lambda *_: None

    def settle(self, device: str, memory_nbytes: int | None, requirements: Path | None) -> None:
        """What isolated processes are started with. `memory_nbytes` bounds what each may allocate;
        `requirements`: where those of artifacts are installed, if they are."""
        self._order = {
            "fork": "isolate",
            "device": device,
            "memory_nbytes": memory_nbytes,
            "requirements_dir": str(requirements) if requirements else None,
            "matmul_precision": self._matmul_precision,
        }

    def stop(self) -> None:
        """From now on the end of a process is nothing to recover from."""
        self._spares.close()
        for process in self._lanes:
            process.stop()

    # ---- models ----

    def assign(self, model: Model) -> Lane:
        """The lane on which the model's batches run."""
        assert model.artifact is not None
        if not model.isolated:
            return self._device_lane_of(model)
        properties = model.artifact.properties
        if properties.isolation is Isolation.SHARED:
            self._shared = self._shared or self._process(SHARED, 1)
            process = self._shared
        else:
            process = self._process(
                model.info.target or model.info.name, properties.concurrency or 1
            )
        self._isolated[model.model_id] = process
        return self._lanes[process]

    def _process(self, name: str, depth: int) -> Isolated:
        process = Isolated(
            name,
            self._spares,
            self._order | {"alone": name != SHARED},
            lambda process: self.on_lost(process),
            lambda model, nbytes: self.on_growth(model, nbytes),
        )
        self._lanes[process] = Lane(process, depth, GRACE_S)
        return process

    def dismiss(self, model: Model) -> None:
        """The model is gone: nothing of it is remembered."""
        process = self._isolated.pop(model.model_id, None)
        if process is not None and process not in self._isolated.values():
            del self._lanes[process]
            if process is self._shared:
                self._shared = None

    def end(self, model: Model, reason: str) -> None:
        """Of an isolated model whose process is its own: end what it computes."""
        process = self._isolated[model.model_id]
        if len(process.models) == 1 and self._lanes[process].in_flight:
            process.replace(reason)

    def lane(self, model: Model) -> Lane:
        process = self._isolated.get(model.model_id)
        return self._device_lane_of(model) if process is None else self._lanes[process]

    def _device_lane_of(self, model: Model) -> Lane:
        generates = model.artifact is not None and tasks.generates(model.artifact.task)
        return self.generating_lane if generates else self.device_lane

    # ---- moves ----

    async def load(self, model: Model) -> int:
        process = self._isolated.get(model.model_id)
        return await (self.device if process is None else process).load(model)

    async def unload(self, model: Model) -> int:
        process = self._isolated.get(model.model_id)
        return await (self.device if process is None else process).unload(model)
