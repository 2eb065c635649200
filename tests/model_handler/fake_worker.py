"""A fake worker without computation: every call waits until the test completes it.

It asserts the preconditions of a real worker: at most one load per model at a time, batches only for
loaded models, and no unload during a batch of the model. `broken` keeps what was violated, because a caller
may turn the AssertionError into an answer.
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field

from model_handler.errors import EngineError, InsufficientMemory, WorkerDied
from model_handler.memory.pools import Footprint
from model_handler.messages import Done, InferenceResponse, Refusal, Run
from model_handler.model import Model


@dataclass
class Call:
    kind: str
    model_id: int
    go_on: asyncio.Future[None]
    threads: int = 0


@dataclass
class FakeWorker:
    nbytes: Callable[[Model], int]
    held: set[int] = field(default_factory=set)
    demoted: set[int] = field(default_factory=set)
    calls: list[Call] = field(default_factory=list)
    load_error: EngineError | None = None
    free_nbytes: Callable[[], int | None] = lambda: None  # as reported by the device's driver
    starved: bool = False  # the next batch runs out of memory
    replaced: list[str] = field(default_factory=list)
    forward_s: dict[int, float] = field(default_factory=dict)
    running: bool = True
    failing: bool = False
    private_nbytes: int = 0  # of each model
    load_s: float = 0.0
    leaked: int = 0  # bytes that every unload and demotion leaves on the device
    broken: list[str] = field(default_factory=list)

    async def load(self, model: Model) -> Footprint:
        self._require(model.model_id not in self.held, "loaded twice")
        self._require(not self.busy("load", model.model_id), "two loads of one model in flight")
        await self._wait("load", model.model_id)
        if self.load_error is not None:
            raise self.load_error
        if (free := self.free_nbytes()) is not None and self.nbytes(model) > free:
            raise InsufficientMemory("out of memory")
        self.held.add(model.model_id)
        self.demoted.discard(model.model_id)
        return Footprint(self.nbytes(model), 0, self.private_nbytes, self.load_s)

    async def demote(self, model: Model) -> int:
        if await self._free(model):
            self.demoted.add(model.model_id)
        return self.leaked

    async def unload(self, model: Model) -> int:
        await self._free(model)
        self.demoted.discard(model.model_id)
        return self.leaked

    async def trim(self) -> int | None:
        return self.free_nbytes()

    def end(self, model: Model, reason: str) -> None:
        self.replaced.append(reason)

    async def _free(self, model: Model) -> bool:
        """Free the model. False if the process died meanwhile."""
        self._require(not self.busy("run", model.model_id), "unloaded during a batch")
        self._require(not self.busy("unload", model.model_id), "two unloads of one model in flight")
        try:
            await self._wait("unload", model.model_id)
        except WorkerDied:
            return False
        self.held.discard(model.model_id)
        return True

    async def run(self, command: Run) -> Done:
        self._require(command.model_id in self.held, "a batch for a model that is not loaded")
        await self._wait("run", command.model_id, command.threads)
        if self.starved:
            self.starved = False
            refused = Refusal("InsufficientMemory", "out of memory")
            return Done(command.batch_id, [refused for _ in command.requests], 0.0, 0.0)
        answers: list[InferenceResponse] = [
            InferenceResponse(b"%d:" % command.model_id + request.body, "text/plain")
            for request in command.requests
        ]
        forward_s = self.forward_s.get(command.model_id, 0.0)
        return Done(command.batch_id, list(answers), 0.0, forward_s)

    def replace(self, reason: str, culprit: int = 0) -> None:
        self.replaced.append(reason)

    def _require(self, holds: bool, otherwise: str) -> None:
        if not holds:
            self.broken.append(otherwise)
        assert holds, otherwise

    async def _wait(self, kind: str, model_id: int, threads: int = 0) -> None:
        go_on: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        call = Call(kind, model_id, go_on, threads)
        self.calls.append(call)
        try:
            await call.go_on
        finally:
            if call in self.calls:
                self.calls.remove(call)

    def busy(self, kind: str, model_id: int) -> bool:
        return any(call.kind == kind and call.model_id == model_id for call in self.calls)

    def let_go(self, number: int) -> None:
        call = self.calls.pop(number % len(self.calls))
        if not call.go_on.done():
            call.go_on.set_result(None)

    def die(self) -> None:
        """Simulate the end of the process: its models are lost, and all calls fail."""
        self.held.clear()
        self.demoted.clear()
        calls, self.calls = self.calls, []
        for call in calls:
            if not call.go_on.done():
                call.go_on.set_exception(WorkerDied("killed"))
