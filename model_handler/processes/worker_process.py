"""The front's side of one worker process, from its `Ready` to its end.

Invariant: every call ends, with the worker's report or with WorkerDied.
"""

import asyncio
import itertools
import logging
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Self, TypeVar, cast

from model_handler.artifacts import inspection
from model_handler.artifacts.artifact import Artifact
from model_handler.errors import EngineError, WorkerDied, from_wire
from model_handler.framing import MAX_FRAME_NBYTES, FrameBuffer, frame
from model_handler.memory.pools import Footprint
from model_handler.messages import (
    MAX_RESPONSE_NBYTES,
    Command,
    Demote,
    Done,
    Inspect,
    Inspected,
    Load,
    Loaded,
    LoadFailed,
    Poisoned,
    Ready,
    Report,
    Run,
    Trim,
    Trimmed,
    TryOut,
    Unload,
    Unloaded,
    decode_report,
)
from model_handler.model import Model
from model_handler.processes.forkserver_client import ForkedProcess
from model_handler.processes.process_table import StopWatch

EXIT_LIMIT_S = 1.0
START_LIMIT_S = 300.0  # imports from a cold disk, and the start of the GPU's driver
UNLOAD_LIMIT_S = 30.0  # then the process is replaced, which frees its memory for certain

# Of a frame: every report but Done, and of Done all that is not the body and headers of a response
REPORT_NBYTES = 1 << 20
RESULT_NBYTES = 1 << 10
log = logging.getLogger(__name__)
Expected = TypeVar("Expected", bound=Report)


class WorkerProcess(asyncio.Protocol):
    """Sends commands to the worker and delivers each report to its caller.

    A process that sends anything else than a report is replaced, before more of a frame is buffered than it
    was asked for: `max_response_nbytes` for each request of the largest batch so far.
    `on_lost` is called once when the process was ready and then ended or was replaced, before any call
    fails; it is not called after `close`. `reason` and `culprit`: why it ended, and the model_id whose load
    or batch caused that, 0 if unknown. `replaced`: the front ended it. `explained`: the process gave the
    reason.
    """

    def __init__(
        self,
        process: ForkedProcess,
        on_lost: Callable[["WorkerProcess"], None],
        max_response_nbytes: int = MAX_RESPONSE_NBYTES,
    ) -> None:
        self.reason = "the worker process ended"
        self.culprit = 0
        self.replaced = False
        self.explained = False
        self.ended = asyncio.Event()
        self._loop = asyncio.get_running_loop()
        self._process = process
        self._on_lost = on_lost
        self._watched = False
        self._ready: asyncio.Future[Ready] = self._loop.create_future()
        self._result_nbytes = max_response_nbytes + RESULT_NBYTES
        self._frames = FrameBuffer(REPORT_NBYTES)
        self._waiting: dict[tuple[type, int], asyncio.Future[Any]] = {}
        self._trims = itertools.count(1)
        self._stop_watch: StopWatch | None = None
        self._transport: asyncio.Transport

    @classmethod
    async def start(
        cls,
        process: ForkedProcess,
        on_lost: Callable[["WorkerProcess"], None],
        max_response_nbytes: int = MAX_RESPONSE_NBYTES,
    ) -> Self:
        """Wait until a forked process is ready, and own it. Raises TimeoutError and WorkerDied."""
        worker = cls(process, on_lost, max_response_nbytes)
        try:
            await worker._loop.create_connection(lambda: worker, sock=process.end)
        except BaseException:
            process.end.close()
            raise
        try:
            async with asyncio.timeout(START_LIMIT_S):
                process.started((await worker._ready).pid)
        except BaseException:
            worker.close()
            raise
        if worker.ended.is_set():
            raise WorkerDied(worker.reason)
        worker._watched = True
        worker._stop_watch = StopWatch(worker.pid, lambda: worker._waiting, worker._found_stopped)
        return worker

    @property
    def ready(self) -> Ready:
        return self._ready.result()

    @property
    def pid(self) -> int:
        return self.ready.pid

    # ---- its end ----

    def replace(self, reason: str, culprit: int = 0) -> None:
        """End the process; `on_lost` is called. `culprit`: the model_id to blame."""
        self.reason, self.culprit, self.replaced = reason, culprit, True
        self._transport.abort()

    def _found_stopped(self) -> None:
        self.replace("the worker process was stopped by a signal")

    def close(self) -> None:
        """Close the connection, without `on_lost`: the process ends by itself, unless it hangs."""
        self._watched = False
        self._transport.abort()

    async def end(self) -> None:
        """Return when the process and its descendants have ended, without `on_lost`."""
        self.close()
        self.kill()
        await self.exited()

    def kill(self) -> None:
        self._process.kill()

    @property
    def lost(self) -> bool:
        """See `ForkedProcess`."""
        return self._process.lost

    async def exited(self) -> int | None:
        """Wait for the exit status, negative for a signal; None if unknown."""
        return await self._process.exited()

    async def ended_by_itself(self, limit_s: float = EXIT_LIMIT_S) -> int | None:
        """The exit status, if the process ends soon: its connection may end before it does."""
        with suppress(TimeoutError):
            async with asyncio.timeout(limit_s):
                return await self.exited()
        return None

    # ---- commands ----

    async def load(self, model: Model) -> Footprint:
        """Raises the worker's error."""
        loaded = await self._ask(Loaded, model.model_id, _load(model))
        return Footprint(loaded.nbytes, loaded.main_nbytes, loaded.private_nbytes, loaded.seconds)

    async def inspect(self, command: Inspect) -> Artifact:
        """Raises the process's error. Only for processes that read artifacts, as is `try_out`."""
        return inspection.from_wire(
            (await self._ask(Inspected, command.model_id, command)).artifact
        )

    async def try_out(
        self, model: Model, memory_nbytes: int, cpu_s: float, *, computes: bool
    ) -> None:
        """See `TryOut`. Raises the process's error."""
        command = TryOut(_load(model), memory_nbytes, cpu_s, computes)
        await self._ask(Loaded, model.model_id, command)

    async def unload(self, model: Model) -> int:
        """The bytes that are still held afterwards. A worker that takes too long is replaced."""
        return await self._free(Unload(model.model_id))

    async def demote(self, model: Model) -> int:
        """As `unload`."""
        return await self._free(Demote(model.model_id))

    async def _free(self, command: Unload | Demote) -> int:
        try:
            async with asyncio.timeout(UNLOAD_LIMIT_S):
                return (await self._ask(Unloaded, command.model_id, command)).leaked_nbytes
        except TimeoutError:
            self.replace("a model was not unloaded in time")
        except WorkerDied:
            pass  # its memory is free with it
        return 0

    async def trim(self) -> int | None:
        """Return the allocator's unused blocks; the free bytes of the device then, None if unknown."""
        number = next(self._trims)
        try:
            async with asyncio.timeout(UNLOAD_LIMIT_S):
                return (await self._ask(Trimmed, number, Trim(number))).free_nbytes
        except (TimeoutError, WorkerDied):
            return None

    def run(self, command: Run) -> "asyncio.Future[Done]":
        limit = REPORT_NBYTES + len(command.requests) * self._result_nbytes
        if limit > self._frames.limit:
            self._frames.limit = min(limit, MAX_FRAME_NBYTES)
        return self._send(Done, command.batch_id, command)

    async def _ask(self, kind: type[Expected], number: int, command: Command) -> Expected:
        """The report of this kind and number. Raises WorkerDied, and what a LoadFailed carries."""
        answer = self._send(kind, number, command)
        try:
            return await answer
        finally:
            if self._waiting.get((kind, number)) is answer:
                del self._waiting[kind, number]

    def _send(
        self, kind: type[Expected], number: int, command: Command
    ) -> "asyncio.Future[Expected]":
        """The report to come. Its errors are those of `_ask`; WorkerDied at once where it has ended."""
        if self.ended.is_set():
            raise WorkerDied(self.reason)
        key, data = (kind, number), frame(command)
        assert key not in self._waiting, f"asked twice: {key}"
        self._transport.write(data)
        answer: asyncio.Future[Expected] = self._loop.create_future()
        self._waiting[key] = answer
        return answer

    # ---- asyncio.Protocol ----

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop's is not a subclass

    def data_received(self, data: bytes) -> None:
        if self._transport.is_closing():
            return
        try:
            for payload in self._frames.feed(data):
                self._deliver(decode_report(payload))
        except Exception as error:
            log.error("not a report", exc_info=error, extra={"worker": self._process.pid})
            self._frames.clear()
            self.replace("the process sent what is not a report")

    def connection_lost(self, exc: Exception | None) -> None:
        self.ended.set()
        self._frames.clear()
        if self._stop_watch is not None:
            self._stop_watch.cancel()
        try:
            if self._watched:
                self._on_lost(self)
        finally:
            error = WorkerDied(self.reason)
            for answer in (self._ready, *self._waiting.values()):
                _fail(answer, error)
            self._waiting.clear()

    def _deliver(self, report: Report) -> None:
        match report:
            case Done():
                self._answer(Done, report.batch_id, report)
            case Loaded() | Unloaded() | Inspected():
                self._answer(type(report), report.model_id, report)
            case LoadFailed():
                self._refuse(report)
            case Trimmed():
                self._answer(Trimmed, report.trim_id, report)
            case Ready():
                if not self._ready.done():
                    self._ready.set_result(report)
            case Poisoned():
                self.reason, self.culprit = report.reason, report.model_id
                self.explained = True
                self._transport.abort()

    def _refuse(self, report: LoadFailed) -> None:
        error = from_wire(report.reason.error, report.reason.message)
        for kind in (Loaded, Inspected):
            _fail(self._waiting.get((kind, report.model_id)), error)

    def _answer(self, kind: type[Report], number: int, report: Report) -> None:
        answer = self._waiting.pop((kind, number), None)
        if answer is not None and not answer.done():
            answer.set_result(report)


def _load(model: Model) -> Load:
    artifact = model.artifact
    return Load(
        model.model_id,
        str(artifact.path),
        artifact.task,
        artifact.dtype,
        artifact.convention,
        artifact.properties.concurrency or 1,
        model.info.name,
        model.user.uid,
        model.user.gids,
        model.user.home,
    )


def _fail(future: asyncio.Future[Any] | None, error: EngineError) -> None:
    if future is not None and not future.done():
        future.set_exception(error)
        future.exception()  # retrieved: not every future is awaited
