"""Selects the model for `/invocations` when the platform loads the models (MultiModel mode)."""

from container.engine import EngineInterface
from model_handler.errors import InvalidRequest

MAX_LISTED = 20


class PlatformSelector:
    """Selects by the Target-Model header; bodies are not read."""

    def __init__(self, engine: EngineInterface) -> None:
        self._engine = engine

    def health(self) -> str | None:
        return None  # SageMaker starts an endpoint only if the container is healthy without models

    def select(self, target: str | None, body: bytes) -> tuple[str, bytes]:
        if target is not None:
            return self._engine.resolve(target), body
        return only_model(self._engine), body


def only_model(engine: EngineInterface) -> str:
    """The name of the only loaded model. Raises InvalidRequest if there are none or several."""
    models = engine.models()
    if len(models) != 1:
        raise InvalidRequest(f"model name required; {available(engine)}")
    return models[0].name


def available(engine: EngineInterface) -> str:
    """The names of the loaded models, as one line of bounded length."""
    models = [model.name for model in engine.models()]
    if not models:
        return "no model is loaded"
    more = f" and {len(models) - MAX_LISTED} more" if len(models) > MAX_LISTED else ""
    return f"available: {', '.join(models[:MAX_LISTED])}{more}"
