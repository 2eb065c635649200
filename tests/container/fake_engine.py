"""An engine without models: it stores names, and follows the orders in request bodies."""

import asyncio
import threading
from types import TracebackType
from typing import Self

from model_handler import errors
from model_handler.messages import InferenceRequest, InferenceResponse
from model_handler.model import ModelInfo

MISSING = "/missing"
ENDLESS = "/endless"


class FakeEngine:
    """Urls and bodies are orders. `raise X` raises errors.X, `status N` what a model's own code raises for
    that status; `wait` and ENDLESS wait for `release`."""

    def __init__(self) -> None:
        self.running = False
        self._in_flight = 0
        self._idle = asyncio.Event()
        self.reset()

    def reset(self) -> None:
        """Back to the initial state, for the next test."""
        self.draining = False
        self.sick: str | None = None
        self.requests: list[tuple[str, InferenceRequest]] = []
        self.waiting = threading.Event()  # a request has begun to wait
        self.cancelled = threading.Event()  # and was cancelled
        self.answers: list[tuple[str, str]] = []  # counted: model and outcome
        self._infos: dict[str, ModelInfo] = {}
        self._released = asyncio.Event()

    async def __aenter__(self) -> Self:
        self.running = True
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        tb: TracebackType | None,
    ) -> None:
        self.running = False

    # ---- models ----

    async def load(self, name: str, url: str, *, target: str | None = None) -> None:
        self._refuse_if_draining()
        if name in self._infos:
            raise errors.ModelAlreadyLoaded(f"model {name!r} is already loaded")
        if url == MISSING:
            raise errors.ArtifactNotFound(f"no directory at {url}")
        await self._obey(url.removeprefix("/"))
        self._infos[name] = ModelInfo(name, url, target)

    async def unload(self, name: str) -> None:
        del self._infos[self.model(name).name]

    def models(self) -> list[ModelInfo]:
        return [self._infos[name] for name in sorted(self._infos)]

    def model(self, name: str) -> ModelInfo:
        if name not in self._infos:
            raise errors.ModelNotFound(f"model {name!r} is not loaded")
        return self._infos[name]

    def resolve(self, target: str) -> str:
        for info in self.models():
            if target in (info.name, info.target):
                return info.name
        raise errors.ModelNotFound(f"no loaded model answers to {target!r}")

    # ---- requests ----

    async def invoke(self, name: str, request: InferenceRequest) -> InferenceResponse:
        outcome = "ok"
        self._note(+1)
        try:
            self._refuse_if_draining()
            self.model(name)
            self.requests.append((name, request))
            await self._obey(request.body.decode("latin-1"))
        except BaseException as error:
            outcome = type(error).__name__
            raise
        finally:
            self._note(-1)
            self.answered(name, outcome)
        return _echo(request)

    def answered(self, model: str, outcome: str) -> None:
        self.answers.append((model, outcome))

    async def _obey(self, order: str) -> None:
        verb, _, argument = order.partition(" ")
        if verb == "raise":
            raise errors.from_wire(argument, f"as ordered: {argument}")
        if verb == "status":
            raise errors.from_wire("InferenceFailed", "as ordered", int(argument))
        if verb == "blunder":
            raise KeyError("secret")
        if verb in ("wait", ENDLESS[1:]):
            await self._wait()

    async def _wait(self) -> None:
        cancelled = self.cancelled  # of this test, even if it happens in the next one
        self.waiting.set()
        try:
            await self._released.wait()
        except asyncio.CancelledError:
            cancelled.set()
            raise

    def release(self) -> None:
        """Let waiting requests continue. Call it on the event loop."""
        self._released.set()

    def _note(self, change: int) -> None:
        self._in_flight += change
        if self._in_flight == 0:
            self._idle.set()
            self._idle = asyncio.Event()

    # ---- life ----

    def health(self) -> str | None:
        return "draining" if self.draining else self.sick

    def drain(self) -> None:
        self.draining = True

    async def idle(self) -> None:
        while self._in_flight:
            await self._idle.wait()

    def exposition(self) -> bytes:
        return b"# TYPE mme_models_loaded gauge\nmme_models_loaded %d\n" % len(self._infos)

    def _refuse_if_draining(self) -> None:
        if self.draining:
            raise errors.Draining("the container is shutting down")


def _echo(request: InferenceRequest) -> InferenceResponse:
    """The same body. Custom attributes `return X` are returned as X, `\\r` and `\\n` in it as line breaks."""
    verb, _, argument = (request.custom_attributes or "").partition(" ")
    returned = argument.replace("\\r", "\r").replace("\\n", "\n") if verb == "return" else None
    content_type = request.content_type or "application/octet-stream"
    return InferenceResponse(request.body, content_type, returned)
