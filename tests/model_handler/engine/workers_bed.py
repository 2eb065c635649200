"""Workers, the models that are loaded on them, and their requests, for the state machine of scheduling."""

import asyncio
from collections.abc import Coroutine, Iterator
from typing import Any

from hypothesis import event
from hypothesis.stateful import RuleBasedStateMachine

from model_handler.engine.admission import QueueBounds
from model_handler.engine.queues import Job
from model_handler.errors import EngineError, WorkerDied
from model_handler.memory.lease import Residence
from model_handler.memory.pools import MemoryPool, Tier
from model_handler.memory.residency import Residency
from model_handler.messages import InferenceRequest, InferenceResponse
from model_handler.model import Model, State
from tests.model_handler import ledger
from tests.model_handler.engine.several_workers import Workers
from tests.model_handler.own_errors import OwnErrors
from tests.model_handler.virtual_time import VirtualLoop

DELAYED = 2  # a model whose batches wait for more requests
DELAY_S = 0.003
DEADLINE_S = 60.0
SETTLED = 40  # turns of the event loop after which only workers, timers and clients can go on


class WorkersBed(RuleBasedStateMachine):
    devices: tuple[str, ...] = ("cpu", "cpu")
    cores = 2
    host_capacity: int | None = None

    def __init__(self) -> None:
        super().__init__()
        self.loop = VirtualLoop()
        self.mistakes: list[dict[str, Any]] = []
        self.loop.set_exception_handler(lambda _, context: self.mistakes.append(context))
        nbytes = self.host_capacity
        host = None if nbytes is None else MemoryPool(Tier.HOST, nbytes)
        self.workers = Workers(self.devices, self.cores, host, self.forget)
        self.own_errors = OwnErrors()
        self.core = self.workers.core
        self.models: dict[int, Model] = {}
        self.named: set[int] = set()  # keys in use: loading, ready or unloading
        self.requests: list[asyncio.Task[InferenceResponse]] = []
        self.others: list[asyncio.Task[None]] = []
        self.settled = True
        self.loop.run_until_complete(self.workers.start_all())
        self.turn(SETTLED)

    # ---- the harness ----

    def go(self, work: Coroutine[Any, Any, Any], pace: int = SETTLED) -> "asyncio.Task[Any]":
        task = self.loop.create_task(work)
        self.turn(pace)
        return task

    def turn(self, pace: int) -> None:
        self.loop.turns(pace)
        self.settled = pace == SETTLED

    def residencies(self) -> Iterator[tuple[str, Residency]]:
        yield from self.core.residencies.items()

    def replicas(self) -> Iterator[tuple[str, Residence]]:
        for device, residency in self.residencies():
            for residence in ledger.replicas(residency):
                yield device, residence

    async def load(self, model: Model) -> None:
        delay_s = DELAY_S if model.model_id == DELAYED else 0.0
        try:
            await self.core.admit(model, QueueBounds(6, 2, delay_s=delay_s))
        except (EngineError, asyncio.CancelledError):
            self.named.discard(model.model_id)
            return
        model.entry.become(State.READY)
        self.models[model.model_id] = model

    async def unload(self, model: Model, drain_s: float) -> None:
        await self.core.remove(model, drain_s)
        model.entry.become(State.GONE)
        self.named.discard(model.model_id)

    def leave(self, model: Model, drain_s: float) -> Coroutine[Any, Any, None]:
        del self.models[model.model_id]
        model.entry.become(State.UNLOADING)
        return self.unload(model, drain_s)

    def forget(self, model: Model, reason: str) -> None:
        """As the engine does with a model that cannot be restored: never because processes died."""
        if model.ready:
            event("a model was given up")
            if not self.workers.gpu:
                self.mistakes.append({"forgotten": model.info.name, "reason": reason})
            departure = self.leave(model, 0.0)
            self.core.scheduler.abandon(model, WorkerDied(reason))
            self.others.append(self.loop.create_task(departure))

    async def invoke(self, model: Model, body: bytes) -> InferenceResponse:
        deadline = self.loop.time() + DEADLINE_S
        job = Job(InferenceRequest(body), deadline, self.loop.create_future())
        answer = await self.core.scheduler.submit(model, job)
        assert answer.body == b"%d:" % model.model_id + body
        return answer

    def one_of(self, number: int) -> Model:
        return self.models[sorted(self.models)[number % len(self.models)]]

    # ---- time ----

    def slots(self) -> Iterator[Any]:
        for main in self.core.mains():
            for work_queue in main.work_queues:
                yield from work_queue.slots

    def exhaust(self) -> None:
        """Let the workers do all that they have been asked for, and time pass."""
        for _ in range(2_000):
            self.loop.run_until_complete(self.workers.start_all())
            self.loop.now += 0.1
            self.turn(SETTLED)
            busy = self.workers.busy
            if not busy and all(task.done() for task in [*self.requests, *self.others]):
                return
            if busy:
                busy[0].let_go(0)
        assert self.workers.busy, "somebody waits for ever"
        raise AssertionError("the workers are kept busy for ever")
