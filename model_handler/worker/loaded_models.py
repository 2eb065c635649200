"""Which models a worker has: on the device, demoted, or on their way; and how many batches use each.

Invariant: a command means the state that the commands before it lead to, whichever of them are still being
carried out; a model is demoted once no batch uses it.
"""

import threading
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field

from model_handler.device.cpu_threads import first_work_s
from model_handler.handlers import Handler
from model_handler.worker.capacity import ForwardCapacity


@dataclass(slots=True)
class Experience:
    """With one model: how many rows fit, and how long its last batch would have taken one thread."""

    ceilings: ForwardCapacity = field(default_factory=ForwardCapacity)
    work_s: float = 0.0


class LoadedModel:
    """One loaded model. `generates`: its forward takes many steps. `batches` of it are under way."""

    def __init__(self, model_id: int, handler: Handler, *, generates: bool) -> None:
        self.model_id = model_id
        self.handler = handler
        self.generates = generates
        self.experience = Experience(work_s=first_work_s(handler.nbytes))
        self.batches = 0
        self.unloaded = False
        self.when_idle: Callable[[LoadedModel], None] | None = None


Kept = Future[LoadedModel | None]  # what a demotion leaves of a model; None: nothing


class LoadedModels:
    """By model id. Called by any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._on_device: dict[int, LoadedModel] = {}
        self._kept: dict[int, Kept] = {}
        self._pending: set[int] = set()  # loads accepted and not done
        self._withdrawn: set[int] = set()  # of those, the ones nobody wants any more

    # ---- commands, in the order they came ----

    def expect(self, model_id: int) -> Kept:
        """For a load: what there is to begin with."""
        with self._lock:
            self._pending.add(model_id)
            return self._kept.pop(model_id, None) or _known(None)

    def remove(self, model_id: int) -> Kept | None:
        """For an unload: what there is. None: a load under way, whose `arrived` will be False."""
        with self._lock:
            if self._withdraws(model_id):
                return None
            resident = self._on_device.pop(model_id, None)
            if resident is None:
                return self._kept.pop(model_id, None) or _known(None)
            resident.unloaded = True
            return _known(resident)

    def demote(self, model_id: int, begin: Callable[[LoadedModel, Kept], None]) -> bool:
        """Calls `begin` once no batch uses the model, now or on the thread of the last; it owes a result.

        False where there is nothing to demote. A load under way is withdrawn, as by `remove`.
        """
        with self._lock:
            if self._withdraws(model_id):
                return True
            resident = self._on_device.pop(model_id, None)
            if resident is None:
                return False
            kept = self._kept[model_id] = Kept()
            if resident.batches:
                resident.when_idle = lambda idle: begin(idle, kept)
                return True
        begin(resident, kept)
        return True

    def use(self, model_id: int) -> LoadedModel | None:
        """For a batch, until `release`. None where the model is not on the device."""
        with self._lock:
            resident = self._on_device.get(model_id)
            if resident is not None:
                resident.batches += 1
            return resident

    # ---- what became of them ----

    def release(self, resident: LoadedModel) -> None:
        with self._lock:
            resident.batches -= 1
            if resident.batches or resident.when_idle is None:
                return
            begin, resident.when_idle = resident.when_idle, None
        begin(resident)

    def arrived(
        self, model_id: int, resident: LoadedModel | None, left: LoadedModel | None
    ) -> bool:
        """The end of a load. `left`: what there is to begin with the next time, where it failed.

        False where nobody wants the model any more, which is then the caller's to unload.
        """
        with self._lock:
            self._pending.discard(model_id)
            if model_id in self._withdrawn:
                self._withdrawn.discard(model_id)
                return False
            if resident is not None:
                self._on_device[model_id] = resident
            elif left is not None:
                self._kept[model_id] = _known(left)
            return True

    def _withdraws(self, model_id: int) -> bool:
        if model_id in self._pending:
            self._withdrawn.add(model_id)
        return model_id in self._pending


def _known(resident: LoadedModel | None) -> Kept:
    kept = Kept()
    kept.set_result(resident)
    return kept
