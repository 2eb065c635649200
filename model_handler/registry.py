"""Names to models. Always true: one model per name, and a GONE model is not in here."""

import itertools

from model_handler.errors import ModelAlreadyLoaded, ModelNotFound
from model_handler.model import Model, ModelInfo, State


class Registry:
    def __init__(self) -> None:
        self._models: dict[str, Model] = {}
        self._names_by_target: dict[str, str] = {}
        self._ids = itertools.count(1)

    def begin(self, info: ModelInfo) -> Model:
        """Take the name for a load. Raises ModelAlreadyLoaded unless the name is free."""
        holder = self._models.get(info.name)
        if holder is not None:
            raise ModelAlreadyLoaded(f"model {info.name!r} is already {_PROGRESS[holder.state]}")
        model = Model(next(self._ids), info)
        self._models[info.name] = model
        return model

    def publish(self, model: Model) -> None:
        """The load succeeded: the model answers to its name, and to its target from now on."""
        model.become(State.READY)
        if model.info.target:
            self._names_by_target[model.info.target] = model.info.name

    def remove(self, model: Model) -> None:
        model.become(State.GONE)
        name, target = model.info.name, model.info.target
        del self._models[name]
        if target and self._names_by_target.get(target) == name:
            del self._names_by_target[target]

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
        """A loaded name from a name or from the TargetModel its load carried."""
        if target in self._models:
            return target
        if target in self._names_by_target:
            return self._names_by_target[target]
        raise ModelNotFound(f"no loaded model answers to {target!r}")


_PROGRESS = {State.LOADING: "loading", State.READY: "loaded", State.UNLOADING: "unloading"}
