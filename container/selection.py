"""Choosing a model for `/invocations` when the platform owns the models (MultiModel mode)."""

from container.engine import Engine
from model_handler.errors import InvalidRequest

MAX_LISTED = 20


class PlatformSelector:
    """Bodies are opaque here: only the Target-Model header decides."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def health(self) -> str | None:
        return None  # must be healthy with no model loaded, or the endpoint can never start

    def select(self, target: str | None, body: bytes) -> tuple[str, bytes]:
        if target is not None:
            return self._engine.resolve(target), body
        return only_model(self._engine), body


def only_model(engine: Engine) -> str:
    """Raises InvalidRequest unless exactly one model is loaded."""
    models = engine.models()
    if len(models) != 1:
        raise InvalidRequest(f"model name required; {available(engine)}")
    return models[0].name


def available(engine: Engine) -> str:
    """What could have been asked for, in one bounded line."""
    models = [model.name for model in engine.models()]
    if not models:
        return "no model is loaded"
    more = f" and {len(models) - MAX_LISTED} more" if len(models) > MAX_LISTED else ""
    return f"available: {', '.join(models[:MAX_LISTED])}{more}"
