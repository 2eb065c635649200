"""The interface of the engine, implemented by `model_handler.engine.engine.Engine` and by a fake in tests."""

from contextlib import AbstractAsyncContextManager
from typing import Protocol

from model_handler.messages import InferenceRequest, InferenceResponse
from model_handler.model import ModelInfo


class EngineInterface(AbstractAsyncContextManager["EngineInterface"], Protocol):
    """Entering returns at once; workers start in the background."""

    async def load(self, name: str, url: str, *, target: str | None = None) -> None:
        """Returns when the model can be invoked. After an error nothing of it remains in memory."""

    async def unload(self, name: str) -> None:
        """Returns when the model's memory is free."""

    def models(self) -> list[ModelInfo]:
        """The models that can be invoked, sorted by name."""

    def model(self, name: str) -> ModelInfo:
        """Raises ModelNotFound."""

    def resolve(self, target: str) -> str:
        """The name of the loaded model with this name or this TargetModel. Raises ModelNotFound."""

    async def invoke(self, name: str, request: InferenceRequest) -> InferenceResponse:
        """Counts its outcome, also when it raises. Cancel it when the client has disconnected."""

    def answered(self, model: str, outcome: str) -> None:
        """Count an answer that is not a result of `invoke`. `model`: "unknown", or empty for requests that
        are not inferences; `outcome`: "ok" or the error's class name."""

    def health(self) -> str | None:
        """None, or one line with the reason why this container should be replaced."""

    def drain(self) -> None:
        """After this call, `load` and `invoke` raise Draining."""

    async def idle(self) -> None:
        """Returns when nothing is in flight."""

    def exposition(self) -> bytes:
        """Prometheus text format 0.0.4."""
