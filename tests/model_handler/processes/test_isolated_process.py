"""The process of an isolated model that ends while it starts. The test plays the process."""

import asyncio
import socket
from collections.abc import Callable
from typing import cast

import pytest

from model_handler.errors import EngineError, WorkerDied
from model_handler.framing import frame
from model_handler.memory.pools import Footprint
from model_handler.messages import Loaded, Ready
from model_handler.options import ProcessOptions
from model_handler.processes.forkserver_client import ForkedProcess, ForkServerProcess
from model_handler.processes.isolated_process import IsolatedProcess
from model_handler.processes.prefork import Order, PreforkedProcess, PreforkPool
from tests.model_handler.engine.test_scheduling import ISOLATED, model
from tests.model_handler.processes.test_worker_process import Killed


class NoOutput:
    async def follow(self, line: Callable[[str], None]) -> None:
        pass


class FakeSpare:
    def __init__(self, process: ForkedProcess) -> None:
        self.process, self.output = process, NoOutput()


class FakePool:
    """The first process loads a model and crashes after that; the others end before they are ready."""

    def __init__(self) -> None:
        self.ends: list[socket.socket] = []
        self.taken = asyncio.Event()

    async def take(self, order: Order) -> PreforkedProcess:
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        theirs.setblocking(False)
        if self.ends:
            theirs.close()
        else:
            theirs.sendall(frame(Ready(7, "cpu", 0, 0)))
        self.ends.append(theirs)
        self.taken.set()
        process = ForkedProcess(cast("ForkServerProcess", Killed()), ours)
        return cast("PreforkedProcess", FakeSpare(process))


def test_ends_before_ready_are_not_mistaken_for_the_last_crash() -> None:
    """Each counts for the backoff, leaves no model behind, and raises WorkerDied."""

    async def scenario() -> None:
        pool, one, lost = FakePool(), model(ISOLATED), asyncio.Event()
        process = IsolatedProcess(
            "m", cast("PreforkPool", pool), ProcessOptions("cpu"), lambda _: lost.set(), alone=True
        )
        load = asyncio.create_task(process.load(one))
        await pool.taken.wait()
        await asyncio.get_running_loop().sock_recv(pool.ends[0], 1 << 16)
        pool.ends[0].sendall(frame(Loaded(ISOLATED, 10, 0.0)))
        assert await load == Footprint(10)
        pool.ends[0].close()
        await lost.wait()
        crash: EngineError = await process.failure()
        assert not isinstance(crash, WorkerDied)
        for _ in range(3):
            with pytest.raises(WorkerDied):
                await process.load(one)
            assert not process.models
        assert len(pool.ends) == 4
        assert process.backing_off

    async def limited() -> None:
        async with asyncio.timeout(20):
            await scenario()

    asyncio.run(limited())
