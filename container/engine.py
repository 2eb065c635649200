"""What the container asks of an engine. `model_handler.engine.Engine` is one; tests bring another."""

from types import TracebackType
from typing import Protocol, Self

from model_handler.messages import InferenceRequest, InferenceResponse
from model_handler.model import ModelInfo


class Engine(Protocol):
    async def __aenter__(self) -> Self:
        """Returns at once; what has to be started starts in the background."""

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        tb: TracebackType | None,
        /,
    ) -> None: ...

    async def load(self, name: str, url: str, *, target: str | None = None) -> None:
        """Returns when the model can serve. After any error nothing of it remains."""

    async def unload(self, name: str) -> None:
        """Returns when the model's bytes are back."""

    def models(self) -> list[ModelInfo]:
        """Those that can be invoked, sorted by name."""

    def model(self, name: str) -> ModelInfo:
        """Raises ModelNotFound."""

    def resolve(self, target: str) -> str:
        """A loaded name from a name or from the target its load carried. Raises ModelNotFound."""

    async def invoke(self, name: str, request: InferenceRequest) -> InferenceResponse:
        """Cancel it when the client has gone."""

    def answered(self, model: str, outcome: str) -> None:
        """Count an answer of which `invoke` knows nothing. `model`: "unknown", or empty where none was asked
        for; `outcome`: "ok" or the error's class name."""

    def health(self) -> str | None:
        """None, or one line why this container should be replaced."""

    def drain(self) -> None:
        """From now on `load` and `invoke` raise Draining."""

    async def idle(self) -> None:
        """Returns when nothing is in flight."""

    def exposition(self) -> bytes:
        """Prometheus text format 0.0.4."""
