"""The front's side of a process that reads artifacts, which what it reads may end, block or fill.

Invariant: every command ends: with the process's answer, or with `ReaderEnded` once the process has ended.
"""

import asyncio
import logging
import os
import signal
from collections.abc import Awaitable
from contextlib import suppress
from pathlib import Path
from typing import Self, TypeVar

from model_handler.artifacts.artifact import Artifact
from model_handler.errors import WorkerDied
from model_handler.messages import Inspect
from model_handler.model import Model
from model_handler.processes.prefork import PreforkPool
from model_handler.processes.worker_process import WorkerProcess

log = logging.getLogger(__name__)
ORDER = {"fork": "reader"}
EXIT_LIMIT_S = 1.0
BRIEF_S = 0.5  # of CPU time
SHORTEST_S = 0.05  # between two readings of the CPU time
NICENESS = 10  # as that of loads in a device worker on a CPU

Answer = TypeVar("Answer")


class ReaderEnded(Exception):
    """The process ended before it answered; `str()` says why, with the artifact as the subject.

    `status`: its exit status, negative for a signal; None if it was ended for the time that it took, or lost
    with the fork server (`lost`).
    """

    def __init__(self, reason: str, status: int | None = None, *, lost: bool = False) -> None:
        super().__init__(reason)
        self.status = status
        self.lost = lost

    @property
    def crashed(self) -> bool:
        """It ended by itself, and not for its limits of time and memory."""
        return self.status is not None and -self.status not in _SIGNALS


class Reader:
    """`used`: it has read another artifact before. `slow`: it has got a lower priority, for good."""

    def __init__(self, worker: WorkerProcess) -> None:
        self._worker = worker
        self._name = ""
        self.used = False
        self.slow = False

    @classmethod
    async def start(cls, spares: PreforkPool) -> Self:
        """Raises OSError, TimeoutError and WorkerDied when no process starts."""
        spare = await spares.take(ORDER)
        try:
            reader = cls(await WorkerProcess.start(spare.process, lambda _: None))
        except BaseException:
            spare.output.close()
            raise
        try:
            await spare.output.follow(reader._print)
        except BaseException:
            reader.close()
            raise
        return reader

    @property
    def ended(self) -> bool:
        return self._worker.ended.is_set()

    async def inspect(self, command: Inspect, limit_s: float) -> Artifact:
        """Raises the error of the artifact, and ReaderEnded."""
        return await self._within(limit_s, self._worker.inspect(command), command.url)

    async def try_out(
        self, model: Model, memory_nbytes: int, cpu_s: float, limit_s: float, *, computes: bool
    ) -> None:
        """As `inspect`. Lowers the process's priority if it computes for long, since other work waits for
        cores."""
        work = self._worker.try_out(model, memory_nbytes, cpu_s, computes=computes)
        self._lower_priority_after(_cpu_s(self._worker.pid) + BRIEF_S, BRIEF_S)
        try:
            await self._within(limit_s, work, model.info.name)
        finally:
            self._lowering.cancel()

    def _lower_priority_after(self, cpu_s: float, wait_s: float) -> None:
        """On a busy machine the process may have to wait for most of the time."""
        loop = asyncio.get_running_loop()
        self._lowering = loop.call_later(wait_s, self._lower_priority, cpu_s)

    def _lower_priority(self, after_cpu_s: float) -> None:
        left_s = after_cpu_s - _cpu_s(self._worker.pid)
        if left_s > 0:
            self._lower_priority_after(after_cpu_s, max(left_s, SHORTEST_S))
            return
        self.slow = True
        with suppress(OSError):  # it has just ended
            os.setpriority(os.PRIO_PROCESS, self._worker.pid, NICENESS)

    async def end(self) -> None:
        """Return when the process has ended, or the fork server does not say so."""
        with suppress(TimeoutError):
            async with asyncio.timeout(EXIT_LIMIT_S):
                await self._worker.end()

    def close(self) -> None:
        """End the process without waiting for it."""
        self._worker.close()
        self._worker.kill()

    async def _within(self, limit_s: float, work: Awaitable[Answer], name: str) -> Answer:
        self._name = name
        try:
            async with asyncio.timeout(limit_s):
                answer = await work
        except TimeoutError:
            await self.end()
            raise ReaderEnded(f"took longer than {limit_s:g} s") from None
        except WorkerDied:
            raise await self._cause() from None
        except asyncio.CancelledError:
            self.close()
            raise
        self.used = True
        return answer

    async def _cause(self) -> ReaderEnded:
        status: int | None = None
        with suppress(TimeoutError):
            async with asyncio.timeout(EXIT_LIMIT_S):
                status = await self._worker.exited()
        await self.end()
        log.warning("reader ended", extra={"worker": self._worker.pid, "status": status})
        return _ended(status)

    def _print(self, line: str) -> None:
        log.info("output", extra={"model": self._name, "line": line})


def _cpu_s(pid: int) -> float:
    """CPU time of the process's main thread; 0 where it has ended or the kernel does not say."""
    try:
        return int(Path(f"/proc/{pid}/schedstat").read_text().split()[0]) / 1e9
    except (OSError, ValueError, IndexError):
        return 0.0


def _ended(status: int | None) -> ReaderEnded:
    if status is None:
        return ReaderEnded("the process that read the artifact was lost", lost=True)
    if status >= 0:
        return ReaderEnded(f"ended its process with status {status}", status)
    return ReaderEnded(_SIGNALS.get(-status) or _named(-status), status)


def _named(number: int) -> str:
    return f"ended its process by {signal.Signals(number).name}"


_SIGNALS: dict[int, str] = {
    signal.SIGXCPU: "took too much CPU time",
    signal.SIGKILL: "took so much memory that the kernel ended its process",
}
