"""A fake supervisor without a process: the test decides when its worker starts and dies."""

import asyncio
from collections.abc import Callable

from model_handler.errors import WorkerDied
from model_handler.memory.pools import Footprint
from model_handler.messages import Done, Ready, Run
from model_handler.model import Model
from model_handler.processes.deaths import Death
from tests.model_handler.fake_worker import FakeWorker


class FakeSupervisor(FakeWorker):
    """A FakeWorker with the life cycle of a real one: `arrive` and `die` call the engine's callbacks."""

    TOTAL, CONTEXT = 1_000_000_000, 300_000_000  # bytes of a GPU, and of one CUDA context
    device = "cpu"
    culprit = 0  # model_id that is proven to be the cause when the process dies
    suspects: frozenset[int] = frozenset()  # those at work, without proof
    stopped = False
    starts_at_once = False
    poisoned = False  # the process reports the loss of its device before it dies
    explained = False  # the last death

    def __init__(
        self,
        nbytes: Callable[[Model], int],
        on_ready: Callable[[Ready], None],
        on_lost: Callable[[], None],
        on_examined: Callable[[Death], bool],
        *,
        alone: bool = False,
    ) -> None:
        super().__init__(nbytes)
        self.running = False
        self.on_ready = on_ready
        self.on_lost = on_lost
        self.on_examined = on_examined
        self.alone = alone
        self._arrived = asyncio.Event()

    def start(self) -> None:
        if self.starts_at_once and not self.running:
            self.arrive()

    async def stop(self) -> None:
        self.stopped = True
        self.held.clear()

    async def attempted(self) -> None:
        await self._arrived.wait()

    async def available(self) -> None:
        await self._arrived.wait()

    def sickness(self) -> str | None:
        return None

    def arrive(self) -> None:
        gpu = self.device != "cpu"
        self.running = True
        free = self.TOTAL - self.CONTEXT if gpu else 0
        self.on_ready(Ready(1, self.device, self.TOTAL if gpu else 0, free))
        self._arrived.set()

    def die(self) -> None:
        """As with a real process, the calls fail between the two callbacks."""
        self._arrived.clear()
        self.running = False
        self.on_lost()
        super().die()
        suspects = frozenset({self.culprit}) if self.culprit else self.suspects
        death = Death("killed", suspects, proven=self.culprit > 0, poisoned=self.poisoned)
        self.explained = self.on_examined(death)

    async def go_on_until(self, done: Callable[[], bool]) -> None:
        """Complete all calls until `done`. Artifacts are read in threads, hence the waits."""
        while not done():
            await asyncio.wait([asyncio.create_task(turns())])
            if self.calls and not done():
                self.let_go(0)


class ProcessSupervisor(FakeSupervisor):
    """Has a worker only from `arrive` to `die`: loads wait for it, nothing else does."""

    async def load(self, model: Model) -> Footprint:
        await self._arrived.wait()
        return await super().load(model)

    async def demote(self, model: Model) -> int:
        return await super().demote(model) if self.running else 0

    async def unload(self, model: Model) -> int:
        return await super().unload(model) if self.running else 0

    async def trim(self) -> int | None:
        return await super().trim() if self.running else None

    async def run(self, command: Run) -> Done:
        if not self.running:
            raise WorkerDied("no worker is running")
        return await super().run(command)

    async def stop(self) -> None:
        await super().stop()
        self.running = False
        FakeWorker.die(self)


async def turns() -> None:
    for _ in range(40):
        await asyncio.sleep(0)
