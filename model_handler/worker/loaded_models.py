"""The models of a worker: loaded, demoted or loading, and the batches that use each.

Invariants: a command applies to the state after all earlier commands, even if some of them are still in
progress. A model is demoted only while no batch uses it.
"""

import threading
from collections.abc import Callable, Hashable, Iterator
from concurrent.futures import Future
from dataclasses import dataclass
from functools import partial

from model_handler.handlers import Handler
from model_handler.worker.capacity import ForwardCapacity
from model_handler.worker.forward import Batch


class LoadedModel:
    """One loaded model. `generates`: its forward takes many steps. `batches`: number in progress. `quick`:
    its last forward was.

    `lane`: models with the same one share a tokenizer, whose settings each call changes.
    """

    def __init__(
        self, model_id: int, handler: Handler, *, generates: bool, lane: Hashable = None
    ) -> None:
        self.model_id = model_id
        self.handler = handler
        self.generates = generates
        self.lane = ("model", model_id) if lane is None else lane
        self.capacity = ForwardCapacity()
        self.batches = 0
        self.unloaded = False
        self.quick = False
        self.when_idle: Callable[[LoadedModel], None] | None = None


@dataclass(slots=True)
class Work:
    """One batch that passes through the host and device threads."""

    batch_id: int
    model: LoadedModel
    batch: Batch
    deadline: float
    prepare_s: float
    done: Callable[["Work"], Iterator[None]]  # the steps of its end, for a host thread
    threads: int = 0  # PyTorch's thread count for the forward; 0: the usual count
    forward_s: float = 0.0


Kept = Future[LoadedModel | None]  # the model after its demotion; None: nothing is kept


def after(
    kept: Kept,
    put: Callable[[Callable[[], object]], None],
    task: Callable[[LoadedModel | None], None],
) -> None:
    """Put the task, with the kept model as its argument, once the demotion has ended."""
    kept.add_done_callback(lambda done: put(partial(task, done.result())))


class LoadedModels:
    """All models of a worker, by model id. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._on_device: dict[int, LoadedModel] = {}
        self._kept: dict[int, Kept] = {}
        self._pending: set[int] = set()  # loads in progress
        self._withdrawn: set[int] = set()  # loads in progress that were unloaded or demoted

    # ---- commands, in the order in which they arrived ----

    def expect(self, model_id: int) -> Kept:
        """Begin a load. Returns what an earlier demotion kept of the model."""
        with self._lock:
            self._pending.add(model_id)
            return self._kept.pop(model_id, None) or _known(None)

    def remove(self, model_id: int) -> Kept | None:
        """Remove a model and return it for its unload. None: its load is in progress and was withdrawn, so
        that its `arrived` will return False."""
        with self._lock:
            if self._withdraws(model_id):
                return None
            loaded = self._on_device.pop(model_id, None)
            if loaded is None:
                return self._kept.pop(model_id, None) or _known(None)
            loaded.unloaded = True
            return _known(loaded)

    def demote(self, model_id: int, begin: Callable[[LoadedModel, Kept], None]) -> bool:
        """Call `begin` once no batch uses the model: now, or on the thread that releases the last batch.

        `begin` must see to it that its future gets a result. False if the model is not on the device. A load
        in progress is withdrawn, as by `remove`.
        """
        with self._lock:
            if self._withdraws(model_id):
                return True
            loaded = self._on_device.pop(model_id, None)
            if loaded is None:
                return False
            kept = self._kept[model_id] = Kept()
            if loaded.batches:
                loaded.when_idle = lambda idle: begin(idle, kept)
                return True
        begin(loaded, kept)
        return True

    def use(self, model_id: int) -> LoadedModel | None:
        """Count one more batch for the model, until `release`. None if the model is not on the device."""
        with self._lock:
            loaded = self._on_device.get(model_id)
            if loaded is not None:
                loaded.batches += 1
            return loaded

    # ---- ends of batches and loads ----

    def release(self, loaded: LoadedModel) -> None:
        with self._lock:
            loaded.batches -= 1
            if loaded.batches or loaded.when_idle is None:
                return
            begin, loaded.when_idle = loaded.when_idle, None
        begin(loaded)

    def arrived(self, model_id: int, loaded: LoadedModel | None, left: LoadedModel | None) -> bool:
        """End a load. `left`: after a failure, what the next load can begin with.

        False if the load was withdrawn; then the caller unloads the model.
        """
        with self._lock:
            self._pending.discard(model_id)
            if model_id in self._withdrawn:
                self._withdrawn.discard(model_id)
                return False
            if loaded is not None:
                self._on_device[model_id] = loaded
            elif left is not None:
                self._kept[model_id] = _known(left)
            return True

    def _withdraws(self, model_id: int) -> bool:
        if model_id in self._pending:
            self._withdrawn.add(model_id)
        return model_id in self._pending


def _known(loaded: LoadedModel | None) -> Kept:
    kept = Kept()
    kept.set_result(loaded)
    return kept
