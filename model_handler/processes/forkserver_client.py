"""The front's side of the fork server, which is started for the first worker and again after a crash.

Invariants: the exit of a worker is reported once; when the server dies, its workers count as ended. A server
that is stopped or hangs is killed: its workers end with it, and are replaced as after any other end.
"""

import asyncio
import json
import logging
import os
import socket
import sys
from collections.abc import Mapping
from contextlib import suppress
from typing import Any, Self

from model_handler.background import in_background
from model_handler.processes.stopped import BEAT_S, STOPPED_BEATS, is_stopped

log = logging.getLogger(__name__)
STOP_PATIENCE_S = 2.0
ANSWER_LIMIT_S = 20.0  # a fork takes 20 ms, the end of a process that uses a GPU seconds
IMPORT_LIMIT_S = 300.0  # until the first answer
MAX_UNKNOWN_EXITS = 64


class ForkServerProcess:
    """The process that forks workers, and the control socket to it."""

    def __init__(self, process: asyncio.subprocess.Process, control: socket.socket) -> None:
        self._process = process
        self._control = control
        self._killed = self._stopping = False
        self._exits: dict[int, asyncio.Future[int | None]] = {}  # of running workers, by pid
        self._unknown: dict[
            int, int
        ] = {}  # statuses of ended workers whose pid nobody has asked for
        self._asked_at: float | None = None  # time of the ping that was not answered yet
        self._limit_s = IMPORT_LIMIT_S
        self._listener = in_background(self._listen())
        self._watcher = in_background(self._watch())

    @classmethod
    async def start(cls, environ: Mapping[str, str]) -> Self:
        ours, theirs = socket.socketpair()
        with theirs:
            process = await asyncio.create_subprocess_exec(
                *_command(theirs.fileno()),
                pass_fds=[theirs.fileno()],
                env={**environ, **_ENVIRONMENT},
                stdin=asyncio.subprocess.DEVNULL,
                start_new_session=True,  # a terminal's ^C is for the front alone
            )
        ours.setblocking(False)
        return cls(process, ours)

    def fork(self, order: Mapping[str, Any], second: int | None) -> socket.socket:
        """Request a worker; returns our end of its socket. Raises OSError when the server has ended."""
        ours, theirs = socket.socketpair()
        fds = [theirs.fileno()] if second is None else [theirs.fileno(), second]
        with theirs:
            socket.send_fds(self._control, [json.dumps(order).encode() + b"\n"], fds)
        ours.setblocking(False)
        return ours

    def kill(self, pid: int) -> None:
        """End a worker. Its memory is free before the next fork."""
        with suppress(OSError):
            self._control.send(json.dumps({"kill": pid}).encode() + b"\n")

    def exited(self, pid: int) -> "asyncio.Future[int | None]":
        """The exit status of a worker forked here, set when it ends; None if unknown. To be asked once."""
        if pid not in self._unknown and not self._listener.done():
            return self._exits.setdefault(pid, asyncio.get_running_loop().create_future())
        known: asyncio.Future[int | None] = asyncio.get_running_loop().create_future()
        known.set_result(self._unknown.pop(pid, None))
        return known

    @property
    def alive(self) -> bool:
        return not self._killed and self._process.returncode is None

    async def _listen(self) -> None:
        """Forward worker exit statuses until the fork server exits."""
        reader, writer = await asyncio.open_unix_connection(sock=self._control.dup())
        try:
            while line := await reader.readline():
                self._note(json.loads(line))
        except ConnectionError:
            pass  # it ended before it had read everything
        except (OSError, ValueError, KeyError) as error:
            log.error("not a report of the fork server", exc_info=error)
        finally:
            writer.close()
            if not self._stopping:
                self._kill()
            for news in self._exits.values():
                if not news.done():
                    news.set_result(None)
            self._exits.clear()

    def _note(self, report: dict[str, int]) -> None:
        if "pong" in report:
            self._asked_at, self._limit_s = None, ANSWER_LIMIT_S
        elif "forked" in report:
            self._unknown.pop(report["forked"], None)  # of an earlier process with this pid
        else:
            log.info("worker exited", extra=report)
            self._note_exit(report["exited"], report["status"])

    def _note_exit(self, pid: int, status: int) -> None:
        """Kept for a while, since a status may arrive before it is asked for."""
        news = self._exits.pop(pid, None)
        if news is None:
            self._unknown[pid] = status
            if len(self._unknown) > MAX_UNKNOWN_EXITS:
                del self._unknown[next(iter(self._unknown))]
        elif not news.done():
            news.set_result(status)

    # ---- a server that is stopped or hangs ----

    async def _watch(self) -> None:
        """Kill the server when it is stopped, or when it has not answered for too long."""
        loop, stopped = asyncio.get_running_loop(), 0
        while not self._listener.done():
            if self._asked_at is None:
                self._asked_at = loop.time()
                with suppress(OSError):  # a full socket: it does not answer either
                    self._control.send(json.dumps({"ping": 1}).encode() + b"\n")
            await asyncio.sleep(BEAT_S)
            stopped = stopped + 1 if is_stopped(self._process.pid) else 0
            late = self._asked_at is not None and loop.time() - self._asked_at > self._limit_s
            if late or stopped >= STOPPED_BEATS:
                reason = "it is stopped" if stopped else "it does not answer"
                log.error("fork server replaced", extra={"reason": reason})
                self._kill()
                return

    def _kill(self) -> None:
        """Its workers end with it, by PR_SET_PDEATHSIG."""
        self._killed = True
        with suppress(ProcessLookupError):
            self._process.kill()

    async def stop(self) -> None:
        """Close the control socket, so that it ends its workers and itself."""
        self._stopping = True
        self._watcher.cancel()
        self._listener.cancel()
        await asyncio.wait([self._watcher, self._listener])
        self._control.close()
        try:
            async with asyncio.timeout(STOP_PATIENCE_S):
                await self._process.wait()
        except TimeoutError:  # it may be stuck in its imports
            self._kill()
            await self._process.wait()


def _command(control_fd: int) -> list[str]:
    level = logging.getLogger().getEffectiveLevel()
    options = ["--control-fd", str(control_fd), "--log-level", str(level)]
    return [sys.executable, "-m", "model_handler.processes.forkserver", *options]


_ENVIRONMENT = {
    "HF_HUB_OFFLINE": "1",  # endpoints with network isolation have no hub; nor must a load wait for one
    "OMP_WAIT_POLICY": "PASSIVE",  # spinning threads would take the front's core
    "PYTHONDONTWRITEBYTECODE": "1",
    "PYTHONUNBUFFERED": "1",
}


class ForkServerClient:
    """Forks workers, and starts the fork server when none is running, with the environment `environ`."""

    def __init__(self, environ: Mapping[str, str] = os.environ) -> None:
        self._environ = environ
        self._server: ForkServerProcess | None = None
        self._starting = asyncio.Lock()

    async def fork(self, order: Mapping[str, Any], second: int | None = None) -> "ForkedProcess":
        """One worker for an order of `forkserver`'s protocol; `second`: its second descriptor.

        Raises OSError when the server cannot be started or died just now.
        """
        async with self._starting:
            if self._server is None or not self._server.alive:
                await self._start()
        assert self._server is not None
        return ForkedProcess(self._server, self._server.fork(order, second))

    async def _start(self) -> None:
        await self.stop()
        self._server = await ForkServerProcess.start(self._environ)

    async def stop(self) -> None:
        """End the fork server and all its workers."""
        if self._server is not None:
            await self._server.stop()


class ForkedProcess:
    """One worker process. Its pid is known when it has sent `Ready`."""

    def __init__(self, server: ForkServerProcess, end: socket.socket) -> None:
        self._server = server
        self._exit: asyncio.Future[int | None] | None = None
        self.end = end
        self.pid: int | None = None

    def started(self, pid: int) -> None:
        """It has sent `Ready`, with this pid."""
        self.pid = pid
        self._exit = self._server.exited(pid)

    def kill(self) -> None:
        """End it and its descendants, unless they have ended."""
        if self.pid is not None:
            self._server.kill(self.pid)

    async def exited(self) -> int | None:
        """The exit status when it has ended, negative for a signal; None if unknown."""
        if self._exit is None:
            return None  # it never came up: its end of the socket is closed, and it ends on that
        return await asyncio.shield(self._exit)
