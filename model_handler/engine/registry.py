"""The entry of each name, and the models that are ready.

Invariant: at most one entry per name, none in state GONE; `models` holds exactly the names whose entry is
READY.
"""

import itertools

from model_handler.errors import ModelAlreadyLoaded, ModelNotFound
from model_handler.model import Entry, Model, ModelInfo, State


class Registry:
    def __init__(self) -> None:
        self._entries: dict[str, Entry] = {}
        self.models: dict[str, Model] = {}  # those that are READY; changed here only
        self._ids = itertools.count(1)

    def begin(self, info: ModelInfo) -> Entry:
        """Take the name for a load. Raises ModelAlreadyLoaded unless the name is free."""
        holder = self._entries.get(info.name)
        if holder is not None:
            raise ModelAlreadyLoaded(f"model {info.name!r} is already {_PROGRESS[holder.state]}")
        entry = Entry(next(self._ids), info)
        self._entries[info.name] = entry
        return entry

    def serve(self, model: Model) -> None:
        model.entry.become(State.READY)
        self.models[model.info.name] = model

    def withdraw(self, model: Model) -> None:
        model.entry.become(State.UNLOADING)
        del self.models[model.info.name]

    def remove(self, entry: Entry) -> None:
        """Free the name."""
        entry.become(State.GONE)
        del self._entries[entry.info.name]

    def find(self, name: str) -> Entry | None:
        """The entry of that name in whatever state."""
        return self._entries.get(name)

    def ready(self, name: str) -> Model:
        """Raises ModelNotFound unless the model is READY."""
        model = self.models.get(name)
        if model is None:
            raise ModelNotFound(f"model {name!r} is not loaded")
        return model

    def all_ready(self) -> list[ModelInfo]:
        return [self.models[name].info for name in sorted(self.models)]

    def resolve(self, target: str) -> str:
        """The name of a READY model from that name, or from the TargetModel its load carried.

        Of several loads with one target the latest counts.
        """
        if target in self.models:
            return target
        for name in reversed(self._entries):
            if name in self.models and self.models[name].info.target == target:
                return name
        raise ModelNotFound(f"no loaded model answers to {target!r}")


_PROGRESS = {State.LOADING: "loading", State.READY: "loaded", State.UNLOADING: "unloading"}
