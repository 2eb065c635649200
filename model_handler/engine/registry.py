"""Names to models. Invariant: one model per name, and no GONE model."""

import itertools

from model_handler.errors import ModelAlreadyLoaded, ModelNotFound
from model_handler.model import Model, ModelInfo, State


class Registry:
    def __init__(self) -> None:
        self._models: dict[str, Model] = {}
        self._ids = itertools.count(1)

    def begin(self, info: ModelInfo) -> Model:
        """Take the name for a load. Raises ModelAlreadyLoaded unless the name is free."""
        holder = self._models.get(info.name)
        if holder is not None:
            raise ModelAlreadyLoaded(f"model {info.name!r} is already {_PROGRESS[holder.state]}")
        model = Model(next(self._ids), info)
        self._models[info.name] = model
        return model

    def remove(self, model: Model) -> None:
        model.become(State.GONE)
        del self._models[model.info.name]

    def find(self, name: str) -> Model | None:
        """The model of that name in whatever state."""
        return self._models.get(name)

    def ready(self, name: str) -> Model:
        """Raises ModelNotFound unless the model is READY."""
        model = self._models.get(name)
        if model is None or model.state is not State.READY:
            raise ModelNotFound(f"model {name!r} is not loaded")
        return model

    def all_ready(self) -> list[Model]:
        ready = (model for model in self._models.values() if model.state is State.READY)
        return sorted(ready, key=lambda model: model.info.name)

    def resolve(self, target: str) -> str:
        """The name of a READY model from that name, or from the TargetModel its load carried.

        Of several loads with one target the latest counts.
        """
        latest = None
        for name, model in self._models.items():
            if model.state is State.READY and target in (name, model.info.target):
                latest = name
                if target == name:
                    break
        if latest is not None:
            return latest
        raise ModelNotFound(f"no loaded model answers to {target!r}")


_PROGRESS = {State.LOADING: "loading", State.READY: "loaded", State.UNLOADING: "unloading"}
