"""How a worker is started: with its options, and again after a start that failed."""

import asyncio
import socket
from collections.abc import Mapping
from typing import Any, cast

import msgspec
import pytest

from model_handler.messages import Ready, frame
from model_handler.options import WorkerOptions
from model_handler.processes.forkserver_client import (
    ForkedProcess,
    ForkServerClient,
    ForkServerProcess,
)
from model_handler.processes.supervisor import Supervisor
from tests.model_handler.processes.test_worker_process import Killed


class Orders(ForkServerClient):
    """A fake fork server that records orders and starts no process."""

    def __init__(self) -> None:
        super().__init__()
        self.taken: asyncio.Queue[Mapping[str, Any]] = asyncio.Queue()

    async def fork(self, order: Mapping[str, Any], output: int | None = None) -> ForkedProcess:
        self.taken.put_nowait(order)
        raise OSError("no process can be had")


@pytest.mark.parametrize("options", [WorkerOptions(), WorkerOptions(False, "high", 1 << 30)])
def test_the_order_carries_the_options(options: WorkerOptions) -> None:
    async def ordered() -> Mapping[str, Any]:
        orders = Orders()
        supervisor = Supervisor("cpu", orders, options, lambda _: None, lambda _: None)
        supervisor.start()
        try:
            return await asyncio.wait_for(orders.taken.get(), 10)
        finally:
            await supervisor.stop()

    order = msgspec.json.decode(msgspec.json.encode(asyncio.run(ordered())))
    assert (order["fork"], order["device"]) == ("worker", "cpu")
    assert msgspec.convert(order["options"], WorkerOptions) == options


class Forked(Orders):
    """Hands out sockets whose other ends the test plays as workers that are ready."""

    def __init__(self) -> None:
        super().__init__()
        self.ends: list[socket.socket] = []

    async def fork(self, order: Mapping[str, Any], output: int | None = None) -> ForkedProcess:
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        self.ends.append(theirs)
        theirs.sendall(frame(Ready(len(self.ends), "cpu", 0, 0)))
        return ForkedProcess(cast("ForkServerProcess", Killed()), ours)


def test_an_error_of_ours_is_a_start_that_failed() -> None:
    """The next worker is started, and the supervisor is sick after several such starts."""

    async def scenario() -> None:
        forked, mistakes = Forked(), [KeyError("thread"), OverflowError()]

        def on_ready(ready: Ready) -> None:
            if mistakes:
                raise mistakes.pop()

        supervisor = Supervisor("cpu", forked, WorkerOptions(), on_ready, lambda _: None)
        supervisor.start()
        async with asyncio.timeout(10):
            await supervisor.available()
        assert supervisor.running
        assert len(forked.ends) == 3
        assert [end.recv(1) for end in forked.ends[:2]] == [b"", b""]
        await supervisor.stop()
        for end in forked.ends:
            end.close()

    asyncio.run(scenario())
