"""The fork server is replaced when it dies, is stopped or hangs. It forks processes that import nothing."""

import asyncio
import contextlib
import os
import signal
import sys
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

import psutil
import pytest

from model_handler.errors import WorkerDied
from model_handler.messages import Run
from model_handler.processes import forkserver_client, process_table
from model_handler.processes.forkserver_client import SERVER, TEMPLATE, ForkServerClient
from model_handler.processes.process_table import has_ended
from model_handler.processes.worker_process import WorkerProcess
from tests.model_handler import ledger

PROGRAM = """
import os, socket, sys
from model_handler.framing import frame
from model_handler.messages import Ready
from model_handler.processes import forkserver

def run(order, fds):
    forkserver._name_process("mme-worker")
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
del sys.argv[3]
forkserver.main()
"""
ORDER = {"fork": "worker", "device": "cpu"}
STDERR = 2  # in place of the record of its work, which these workers do not write
PATIENCE_S = 30.0


class Client(ForkServerClient):
    """`lost`: workers that ended by themselves. `marker`: in the command line of each process.
    `imports`: how often the libraries were imported."""

    def __init__(self, marker: str) -> None:
        super().__init__()
        self.lost: list[WorkerProcess] = []
        self.marker = marker
        self.imports = 0

    def command(self, control_fd: int) -> list[str]:
        self.imports += 1
        options = ["--control-fd", str(control_fd), self.marker, "--name", TEMPLATE]
        return [sys.executable, "-c", PROGRAM, *options]

    def named(self, name: str) -> set[psutil.Process]:
        """The client's processes with this name: some have lost their parent."""
        found = set()
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.NoSuchProcess):
                ours = process.name() == name and self.marker in process.cmdline()
                if ours and process.status() != psutil.STATUS_ZOMBIE:
                    found.add(process)
        return found

    async def other(self, name: str, than: psutil.Process) -> psutil.Process:
        """The process of this name that has taken another one's place."""
        while True:
            for process in self.named(name) - {than}:
                return process
            await asyncio.sleep(0.01)

    @property
    def server(self) -> psutil.Process:
        (process,) = self.named(SERVER)
        return process

    @property
    def template(self) -> psutil.Process:
        (process,) = self.named(TEMPLATE)
        return process

    async def worker(self) -> WorkerProcess:
        return await WorkerProcess.start(await self.fork(ORDER, STDERR), self.lost.append)


Scenario = Callable[[Client], Coroutine[Any, Any, None]]


@pytest.fixture
def play(monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> Callable[[Scenario], None]:
    def play(scenario: Scenario) -> None:
        async def limited() -> None:
            client = Client(str(tmp_path / "full"))
            monkeypatch.setattr(forkserver_client, "_command", client.command)
            try:
                async with asyncio.timeout(PATIENCE_S):
                    await scenario(client)
            finally:
                await client.stop()
            assert not client.named(SERVER) | client.named(TEMPLATE) | client.named("mme-worker")

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
        worker, server = await client.worker(), client.server
        answer = worker.run(Run(1, 1, [], 60.0))
        os.kill(server.pid, signal.SIGSTOP)
        hanging = await client.fork(ORDER, STDERR)  # an order that the stopped server does not read
        start = asyncio.create_task(WorkerProcess.start(hanging, client.lost.append))
        ending = asyncio.create_task(worker.exited())
        assert await soon(answer) < 10
        with pytest.raises(WorkerDied):
            await start
        assert await ending is None
        assert client.lost == [worker]
        again = await client.worker()
        assert client.server.pid != server.pid
        assert psutil.Process(again.pid).ppid() == client.server.pid
        await again.end()

    play(scenario)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP])
def test_either_may_end_and_nothing_is_imported_again(
    play: Play, monkeypatch: pytest.MonkeyPatch, number: signal.Signals
) -> None:
    """In turn, the template and the server: each is forked by the other one."""
    monkeypatch.setattr(forkserver_client, "BEAT_S", 0.05)

    async def scenario(client: Client) -> None:
        for _ in range(2):
            worker, template = await client.worker(), client.template
            os.kill(template.pid, number)
            await client.other(TEMPLATE, template)
            assert not client.lost  # the server goes on
            server = client.server
            assert psutil.Process(worker.pid).ppid() == server.pid
            os.kill(server.pid, number)
            await worker.ended.wait()
            assert worker in client.lost
            client.lost.clear()
            assert await soon(client.worker()) < 1
            await client.other(SERVER, server)
        assert client.imports == 1

    play(scenario)


def test_workers_have_ended_before_the_next_server_is_forked(play: Play) -> None:
    """Their memory is free: it may be that of a GPU. Also where the server has lost its parent before."""

    async def scenario(client: Client) -> None:
        for _ in range(2):
            first, _ = await client.worker(), client.template
            server = client.server
            os.kill(server.pid, signal.SIGKILL)
            await first.ended.wait()
            await client.worker()
            assert has_ended(first.pid)
            template = client.template
            os.kill(template.pid, signal.SIGKILL)
            await client.other(TEMPLATE, template)

    play(scenario)


def test_both_end_at_once(play: Play) -> None:
    async def scenario(client: Client) -> None:
        await client.worker()
        for each in (client.template, client.server):
            os.kill(each.pid, signal.SIGKILL)
        while True:
            with contextlib.suppress(OSError, WorkerDied):
                await client.worker()
                break
            await asyncio.sleep(0)  # an order to a dead server fails at once
        assert client.imports == 2

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


def test_a_stopped_worker_is_replaced_once_something_waits_for_it(
    play: Play, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(process_table, "BEAT_S", 0.05)

    async def scenario(client: Client) -> None:
        worker, other = await client.worker(), await client.worker()
        for each in (worker, other):
            os.kill(each.pid, signal.SIGSTOP)
        answer = worker.run(Run(1, 1, [], 60.0))
        assert await soon(answer) < 1
        with pytest.raises(WorkerDied, match="stopped by a signal"):
            answer.result()
        assert client.lost == [worker]
        assert not other.ended.is_set()
        await worker.end()
        await other.end()

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
