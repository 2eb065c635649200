"""The front's side of a worker whose socket the test holds."""

import asyncio
import socket
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, cast

import pytest

from model_handler.errors import ModelLoadFailed, WorkerDied
from model_handler.framing import frame
from model_handler.memory.pools import Footprint
from model_handler.messages import (
    Done,
    Loaded,
    LoadFailed,
    Poisoned,
    Ready,
    Refusal,
    Report,
    Run,
    Unloaded,
)
from model_handler.processes.forkserver_client import ForkedProcess, ForkServerProcess
from model_handler.processes.worker_process import WorkerProcess
from tests.model_handler.engine.test_scheduling import model

READY = Ready(7, "cpu", 0, 0)
RUN = Run(1, 1, [], 1.0)


class Killed:
    """A fork server with one worker, which the test plays."""

    def __init__(self) -> None:
        self.pids: list[int] = []

    def kill(self, pid: int) -> None:
        self.pids.append(pid)

    def exited(self, pid: int) -> "asyncio.Future[int | None]":
        status: asyncio.Future[int | None] = asyncio.get_running_loop().create_future()
        status.set_result(-9)
        return status


class Played:
    """`lost`: the reason and culprit of each loss, with what was still waiting for an answer then."""

    def __init__(self) -> None:
        self.server = Killed()
        ours, self.end = socket.socketpair()
        ours.setblocking(False)
        self.process = ForkedProcess(cast("ForkServerProcess", self.server), ours)
        self.lost: list[tuple[str, int, list[bool]]] = []
        self.calls: list[asyncio.Future[Any]] = []

    def send(self, *reports: Report) -> None:
        self.end.sendall(b"".join(map(frame, reports)))

    async def start(self) -> WorkerProcess:
        return await WorkerProcess.start(self.process, self._lost)

    def _lost(self, worker: WorkerProcess) -> None:
        self.lost.append((worker.reason, worker.culprit, [call.done() for call in self.calls]))

    async def call(self, work: Awaitable[Any]) -> "asyncio.Future[Any]":
        self.calls.append(asyncio.ensure_future(work))
        await asyncio.sleep(0)
        return self.calls[-1]


def played(scenario: Callable[[Played], Coroutine[Any, Any, None]]) -> None:
    async def limited() -> None:
        async with asyncio.timeout(10):
            played = Played()
            with played.end:
                await scenario(played)

    asyncio.run(limited())


def test_reports_reach_their_callers() -> None:
    async def scenario(worker: Played) -> None:
        worker.send(READY)
        process = await worker.start()
        assert (process.pid, process.ready) == (7, READY)
        load = await worker.call(process.load(model(1)))
        other = await worker.call(process.load(model(2)))
        run = await worker.call(process.run(RUN))
        done = Done(1, [], 0.0, 0.0)
        failed = LoadFailed(2, Refusal("ModelLoadFailed", "corrupt"))
        worker.send(done, Loaded(3, 0, 0.0), failed, Loaded(1, 10, 0.5, 5, 7))
        assert await load == Footprint(10, 5, private_nbytes=7, seconds=0.5)
        assert await run == done
        with pytest.raises(ModelLoadFailed, match="corrupt"):
            await other
        for free in (process.unload, process.demote):
            freed = await worker.call(free(model(1)))
            worker.send(Unloaded(1, 4))
            assert await freed == 4
        await process.end()
        assert worker.server.pids == [7]
        assert not worker.lost

    played(scenario)


@pytest.mark.parametrize("replaced", [False, True])
def test_a_loss_is_known_before_any_call_fails(replaced: bool) -> None:
    async def scenario(worker: Played) -> None:
        worker.send(READY)
        process = await worker.start()
        run = await worker.call(process.run(RUN))
        unload = await worker.call(process.unload(model(1)))
        trim = await worker.call(process.trim())
        if replaced:
            process.replace("a batch never ended", 1)
        else:
            worker.send(Poisoned("assert", 1))
        with pytest.raises(WorkerDied, match="never ended" if replaced else "^assert$"):
            await run
        assert (await unload, await trim) == (0, None)
        ((reason, culprit, done),) = worker.lost
        assert (str(run.exception()), culprit, done) == (reason, 1, [False] * 3)
        assert process.replaced is replaced
        with pytest.raises(WorkerDied):
            await process.run(RUN)

    played(scenario)


def test_a_worker_that_never_gets_ready_is_no_loss() -> None:
    async def scenario(worker: Played) -> None:
        worker.send(Poisoned("no such device"))
        with pytest.raises(WorkerDied, match="no such device"):
            await worker.start()
        assert not worker.lost
        assert worker.process.pid is None

    played(scenario)
