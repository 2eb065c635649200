"""The fork server is replaced when it dies, is stopped or hangs. It forks processes that import nothing."""

import asyncio
import os
import signal
import sys
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

import psutil
import pytest

from model_handler.errors import WorkerDied
from model_handler.messages import Run
from model_handler.processes import forkserver_client
from model_handler.processes.forkserver_client import ForkServerClient
from model_handler.processes.worker_process import WorkerProcess
from tests.model_handler import ledger

PROGRAM = """
import os, socket, sys
from model_handler.messages import Ready, frame
from model_handler.processes import forkserver

def run(order, fds):
    end = socket.socket(fileno=fds[0])
    end.sendall(frame(Ready(os.getpid(), "cpu", 0, 0)))
    while end.recv(1 << 16):
        pass

fork, full = os.fork, sys.argv[3]
def failing():
    if os.path.exists(full):
        raise BlockingIOError("no more processes")
    return fork()

os.fork = failing
forkserver.PRELOAD = ()
forkserver._run = run
del sys.argv[3:]
forkserver.main()
"""
ORDER = {"fork": "worker", "device": "cpu"}
STDERR = 2  # in place of the record of its work, which these workers do not write
PATIENCE_S = 30.0


class Client(ForkServerClient):
    """`lost`: workers that ended by themselves. `imports`: processes that have imported the libraries."""

    def __init__(self) -> None:
        super().__init__()
        self.lost: list[WorkerProcess] = []
        self.imports = 0

    async def worker(self) -> WorkerProcess:
        return await WorkerProcess.start(await self.fork(ORDER, STDERR), self.lost.append)

    async def process(self, name: str, *, other_than: int = 0) -> psutil.Process:
        """The process with this name, as soon as there is one."""
        while True:
            found = [each for each in forked() if each.name() == name and each.pid != other_than]
            if found:
                (process,) = found
                return process
            await asyncio.sleep(0.01)

    async def worker(self) -> WorkerProcess:
        return await WorkerProcess.start(await self.fork(ORDER, STDERR), self.lost.append)


Scenario = Callable[[Client], Coroutine[Any, Any, None]]


@pytest.fixture
def play(monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> Callable[[Scenario], None]:
    def command(control_fd: int) -> list[str]:
        options = ["--control-fd", str(control_fd), str(tmp_path / "full")]
        return [sys.executable, "-c", PROGRAM, *options]

    monkeypatch.setattr(forkserver_client, "_command", command)

    def play(scenario: Scenario) -> None:
        async def limited() -> None:
            client = Client()
            try:
                async with asyncio.timeout(PATIENCE_S):
                    await scenario(client)
            finally:
                await client.stop()
            assert not client.servers

        asyncio.run(limited())

    return play


Play = Callable[[Scenario], None]


async def soon(awaitable: Awaitable[Any]) -> float:
    """The seconds until it is done, with an answer or an error."""
    loop = asyncio.get_running_loop()
    began = loop.time()
    await asyncio.wait([asyncio.ensure_future(awaitable)])
    return loop.time() - began


def test_a_stopped_server_is_replaced_with_its_workers(play: Play) -> None:
    async def scenario(client: Client) -> None:
        worker, stopped = await client.worker(), client.server
        answer = worker.run(Run(1, 1, [], 60.0))
        os.kill(stopped.pid, signal.SIGSTOP)
        hanging = await client.fork(ORDER, STDERR)  # an order that the stopped server does not read
        start = asyncio.create_task(WorkerProcess.start(hanging, client.lost.append))
        ending = asyncio.create_task(worker.exited())
        assert await soon(answer) < 10
        with pytest.raises(WorkerDied):
            await start
        assert await ending is None
        assert client.lost == [worker]
        again = await client.worker()
        assert client.server.pid != stopped.pid
        assert psutil.Process(again.pid).ppid() == client.server.pid
        await again.end()

    play(scenario)


def test_a_server_that_does_not_answer_is_replaced(
    play: Play, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It waits for the end of a process that the kernel does not end."""
    monkeypatch.setattr(forkserver_client, "ANSWER_LIMIT_S", 0.2)
    monkeypatch.setattr(forkserver_client, "BEAT_S", 0.1)
    monkeypatch.setattr(forkserver_client, "STOPPED_BEATS", 10**9)

    async def scenario(client: Client) -> None:
        worker, hanging = await client.worker(), client.server
        await client.worker()  # it has answered its first ping before
        os.kill(hanging.pid, signal.SIGSTOP)
        await worker.ended.wait()
        await (await client.worker()).end()
        assert client.server.pid != hanging.pid

    play(scenario)


def test_a_fork_that_fails_leaves_the_other_workers(play: Play, tmp_path: Any) -> None:
    async def scenario(client: Client) -> None:
        worker, server = await client.worker(), client.server
        (tmp_path / "full").touch()
        with pytest.raises(WorkerDied):
            await client.worker()
        (tmp_path / "full").unlink()
        other = await client.worker()
        assert client.server == server
        assert not client.lost
        os.kill(other.pid, signal.SIGKILL)
        assert await other.exited() == -signal.SIGKILL == await other.exited()
        await worker.end()

    play(scenario)


def test_ended_workers_leave_nothing(play: Play, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(forkserver_client, "MAX_UNKNOWN_EXITS", 3)

    async def scenario(client: Client) -> None:
        for _ in range(6):
            worker = await client.worker()
            await worker.end()
            abandoned = await client.fork(ORDER, STDERR)
            abandoned.end.close()
        await (await client.worker()).end()
        assert ledger.remembered_exits(client) <= 4

    play(scenario)
