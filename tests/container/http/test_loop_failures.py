"""An error that escapes on the event loop ends the process; what is benign does not."""

import asyncio
import logging
from collections.abc import Callable
from typing import Any

import pytest
import uvloop

from container.http import loop_failures
from model_handler.background import in_background
from model_handler.errors import WorkerDied

LOOPS = [asyncio.new_event_loop, uvloop.new_event_loop]
Loop = asyncio.AbstractEventLoop


class Failing(asyncio.Protocol):
    """Raises when data arrives, or when its connection is lost."""

    def __init__(self, error: BaseException, *, at_end: bool = False) -> None:
        self._error = error
        self._at_end = at_end
        self.lost = asyncio.get_running_loop().create_future()

    def data_received(self, data: bytes) -> None:
        if not self._at_end:
            raise self._error

    def connection_lost(self, exc: Exception | None) -> None:
        self.lost.set_result(None)
        if self._at_end:
            raise self._error


async def connection(error: BaseException, *, at_end: bool = False) -> None:
    loop = asyncio.get_running_loop()
    made: list[Failing] = []

    def make() -> Failing:
        made.append(Failing(error, at_end=at_end))
        return made[-1]

    server = await loop.create_server(make, "127.0.0.1", 0)
    host, port = server.sockets[0].getsockname()
    reader, writer = await asyncio.open_connection(host, port)
    writer.write(b"x")
    if at_end:
        writer.close()
    else:
        assert await reader.read() == b"", "the connection must be closed"
    await made[0].lost
    writer.close()
    server.close()


def callback(error: BaseException) -> Callable[[], None]:
    def call() -> None:
        raise error

    return call


async def failing(error: BaseException) -> None:
    raise error


async def forgotten(error: BaseException) -> None:
    """A task whose error nobody retrieves."""
    task = asyncio.ensure_future(failing(error))
    await asyncio.wait([task])
    del task


FATAL: dict[str, Callable[[Loop, BaseException], Any]] = {
    "call_soon": lambda loop, error: loop.call_soon(callback(error)),
    "call_later": lambda loop, error: loop.call_later(0, callback(error)),
    "background task": lambda loop, error: in_background(failing(error)),
    "forgotten task": lambda loop, error: loop.create_task(forgotten(error)),
    "connection_lost": lambda loop, error: loop.create_task(connection(error, at_end=True)),
}
BENIGN: dict[str, Callable[[Loop, BaseException], Any]] = {
    "data_received": lambda loop, error: loop.create_task(connection(error)),
    "reset": lambda loop, error: loop.call_soon(callback(ConnectionResetError())),
    "no more files": lambda loop, error: loop.call_soon(callback(OSError(24, "too many"))),
    "answer": lambda loop, error: loop.create_task(forgotten(WorkerDied("killed"))),
    "no error": lambda loop, error: loop.call_exception_handler({"message": "Unclosed"}),
}


def statuses(make: Callable[[], Loop], cause: Callable[[Loop, BaseException], Any]) -> list[int]:
    """The exit statuses with which the process would have ended."""
    ended: list[int] = []

    async def scenario() -> None:
        loop = asyncio.get_running_loop()
        loop_failures.watch(loop, ended.append)
        kept = cause(loop, KeyError("thread"))
        if isinstance(kept, asyncio.Task):
            await asyncio.wait([kept])
        for _ in range(20):
            await asyncio.sleep(0)

    with asyncio.Runner(loop_factory=make) as runner:
        runner.run(scenario())
    return ended


@pytest.mark.parametrize("make", LOOPS, ids=["asyncio", "uvloop"])
@pytest.mark.parametrize("cause", FATAL)
def test_an_escaped_error_ends_the_process(
    make: Callable[[], Loop], cause: str, caplog: pytest.LogCaptureFixture
) -> None:
    assert statuses(make, FATAL[cause])[:1] == [1]
    logged = [each for each in caplog.records if each.levelno == logging.CRITICAL]
    assert logged
    assert logged[0].exc_info
    assert isinstance(logged[0].exc_info[1], KeyError)


@pytest.mark.parametrize("make", LOOPS, ids=["asyncio", "uvloop"])
@pytest.mark.parametrize("cause", BENIGN)
def test_what_is_only_logged(make: Callable[[], Loop], cause: str) -> None:
    assert statuses(make, BENIGN[cause]) == []
