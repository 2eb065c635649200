"""The front's end of one worker's socket: sends commands and delivers each report to its caller.

Invariant: every call ends, with the worker's report or with WorkerDied.
"""

import asyncio
import itertools
import socket
from collections.abc import Callable
from typing import Self, cast

from model_handler.errors import EngineError, WorkerDied, from_wire
from model_handler.messages import (
    Command,
    Demote,
    Done,
    FrameBuffer,
    Load,
    Loaded,
    LoadFailed,
    Poisoned,
    Ready,
    Report,
    Run,
    Trim,
    Trimmed,
    Unload,
    Unloaded,
    decode_report,
    frame,
)

Key = tuple[str, int]


class Link(asyncio.Protocol):
    """`on_closed` is called with the reason when the worker is gone, before any call fails."""

    def __init__(self, on_closed: Callable[[str], None]) -> None:
        loop = asyncio.get_running_loop()
        self.ready: asyncio.Future[Ready] = loop.create_future()
        self.closed = asyncio.Event()
        self._on_closed = on_closed
        self._loop = loop
        self._frames = FrameBuffer()
        self._waiting: dict[Key, asyncio.Future[Report]] = {}
        self._transport: asyncio.Transport | None = None
        self._reason = "the worker process ended"
        self.culprit = (
            0  # the model whose load or batch lost the device, where the worker named one
        )
        self._trims = itertools.count(1)

    @classmethod
    async def open(cls, end: socket.socket, on_closed: Callable[[str], None]) -> Self:
        """Takes ownership of the socket."""
        loop = asyncio.get_running_loop()
        _, link = await loop.create_connection(lambda: cls(on_closed), sock=end)
        return link

    def close(self) -> None:
        if self._transport is not None:
            self._transport.abort()

    # ---- calls ----

    async def load(self, command: Load) -> Loaded:
        """Raises the worker's error."""
        report = await self._ask(("load", command.model_id), command)
        if isinstance(report, LoadFailed):
            raise from_wire(report.reason.error, report.reason.message)
        assert isinstance(report, Loaded)
        return report

    async def unload(self, model_id: int) -> Unloaded:
        report = await self._ask(("unload", model_id), Unload(model_id))
        assert isinstance(report, Unloaded)
        return report

    async def demote(self, model_id: int) -> Unloaded:
        report = await self._ask(("unload", model_id), Demote(model_id))
        assert isinstance(report, Unloaded)
        return report

    async def trim(self) -> Trimmed:
        number = next(self._trims)
        report = await self._ask(("trim", number), Trim(number))
        assert isinstance(report, Trimmed)
        return report

    async def run(self, command: Run) -> Done:
        report = await self._ask(("run", command.batch_id), command)
        assert isinstance(report, Done)
        return report

    async def _ask(self, key: Key, command: Command) -> Report:
        if self._transport is None or self.closed.is_set():
            raise WorkerDied(self._reason)
        assert key not in self._waiting, f"asked twice: {key}"
        answer: asyncio.Future[Report] = self._loop.create_future()
        self._waiting[key] = answer
        self._transport.write(frame(command))
        try:
            return await answer
        finally:
            self._waiting.pop(key, None)

    # ---- asyncio.Protocol ----

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop's is not a subclass

    def data_received(self, data: bytes) -> None:
        for payload in self._frames.feed(data):
            self._deliver(decode_report(payload))

    def connection_lost(self, exc: Exception | None) -> None:
        self.closed.set()
        self._on_closed(self._reason)
        error = WorkerDied(self._reason)
        self._fail(self.ready, error)
        for answer in list(self._waiting.values()):
            self._fail(answer, error)

    def _deliver(self, report: Report) -> None:
        if isinstance(report, Ready):
            self.ready.set_result(report)
        elif isinstance(report, Poisoned):
            self._reason = f"the device cannot be used: {report.reason}"
            self.culprit = report.model_id
            self.close()
        else:
            answer = self._waiting.get(_key(report))
            if answer is not None and not answer.done():
                answer.set_result(report)

    @staticmethod
    def _fail(future: "asyncio.Future[Ready] | asyncio.Future[Report]", error: EngineError) -> None:
        if not future.done():
            future.set_exception(error)
            future.exception()  # retrieved: not everyone waits for every future


def _key(report: Loaded | LoadFailed | Unloaded | Trimmed | Done) -> Key:
    match report:
        case Done():
            return ("run", report.batch_id)
        case Trimmed():
            return ("trim", report.trim_id)
        case Unloaded():
            return ("unload", report.model_id)
        case _:
            return ("load", report.model_id)
