"""The front's side of the fork servers: one that forks workers, and its template, an idle copy.

Invariants: the exit of a worker is reported once; when the server dies, its workers count as ended. A server
that is stopped or hangs is killed: its workers end with it, and are replaced as after any other end.

The template has imported the libraries and does nothing but fork another server when the first one ends. If
the template ends, the server forks another one. The libraries are imported again only if both end at once.
"""

import asyncio
import json
import logging
import os
import signal
import socket
import sys
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any, Self

from model_handler.background import in_background
from model_handler.processes import process_table
from model_handler.processes.process_table import has_ended
from model_handler.processes.stopped import BEAT_S, STOPPED_BEATS, is_stopped

log = logging.getLogger(__name__)
SERVER, TEMPLATE = "mme-forkserver", "mme-template"  # names of the processes
STOP_PATIENCE_S = 2.0
ANSWER_LIMIT_S = 20.0  # a fork takes 20 ms, the end of a process that uses a GPU seconds
IMPORT_LIMIT_S = 300.0  # until the first answer
WORKERS_LIMIT_S = 10.0  # for the end of a dead server's workers, which may use a GPU
MAX_UNKNOWN_EXITS = 64


class ForkServerProcess:
    """A process that forks workers, and the control socket to it.

    `child`: the process, if it is one that this process started; another fork server forked the others, and
    they send their `pid` themselves. `on_ended` is called when it has ended, but not after `stop`.
    """

    def __init__(
        self,
        control: socket.socket,
        on_ended: Callable[["ForkServerProcess"], None],
        child: asyncio.subprocess.Process | None = None,
        limit_s: float = IMPORT_LIMIT_S,
    ) -> None:
        self.pid = None if child is None else child.pid
        self.workers: set[int] = set()  # pids of those that run
        self._child = child
        self._control = control
        self._on_ended = on_ended
        self._killed = self._stopping = False
        self._exits: dict[int, asyncio.Future[int | None]] = {}  # of running workers, by pid
        self._unknown: dict[
            int, int
        ] = {}  # statuses of ended workers whose pid nobody has asked for
        self._asked_at: float | None = None  # time of the ping that was not answered yet
        self._limit_s = limit_s
        self._listener = in_background(self._listen())
        self._watcher = in_background(self._watch())

    @classmethod
    async def start(
        cls, environ: Mapping[str, str], on_ended: Callable[["ForkServerProcess"], None]
    ) -> Self:
        """Start one, which imports the libraries first."""
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
        return cls(ours, on_ended, process)

    def copy(self, name: str) -> "ForkServerProcess":
        """Have another one forked, which goes on when this one ends. Raises OSError."""
        control = self.fork({"fork": "server", "name": name}, None)
        return ForkServerProcess(control, self._on_ended, limit_s=self._limit_s)

    def fork(self, order: Mapping[str, Any], second: int | None) -> socket.socket:
        """Request a worker; returns our end of its socket. Raises OSError when the server has ended."""
        ours, theirs = socket.socketpair()
        fds = [theirs.fileno()] if second is None else [theirs.fileno(), second]
        try:
            with theirs:
                socket.send_fds(self._control, [json.dumps(order).encode() + b"\n"], fds)
        except OSError:
            ours.close()
            raise
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
        return not self._killed and not self._listener.done()

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
            self._kill_unless_stopping()
            for news in self._exits.values():
                if not news.done():
                    news.set_result(None)
            self._exits.clear()

    def _kill_unless_stopping(self) -> None:
        if not self._stopping:
            self._kill()
            self._on_ended(self)

    def _note(self, report: dict[str, int]) -> None:
        if "pong" in report:
            self._asked_at, self._limit_s = None, ANSWER_LIMIT_S
        elif "serving" in report:
            self.pid = report["serving"]
        elif "forked" in report:
            self.workers.add(report["forked"])
            self._unknown.pop(report["forked"], None)  # of an earlier process with this pid
        else:
            log.info("worker exited", extra=report)
            self.workers.discard(report["exited"])
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
            stopped = stopped + 1 if self.pid is not None and is_stopped(self.pid) else 0
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
            if self._child is not None:
                self._child.kill()
            elif self.pid is not None and not has_ended(self.pid):
                os.kill(self.pid, signal.SIGKILL)

    async def stop(self) -> None:
        """Close the control socket, so that it ends its workers and itself."""
        self._stopping = True
        self._watcher.cancel()
        self._listener.cancel()
        await asyncio.wait([self._watcher, self._listener])
        self._control.close()
        if not await self._ended(STOP_PATIENCE_S):  # it may be stuck in its imports
            self._kill()
            await self._ended(STOP_PATIENCE_S)

    async def _ended(self, limit_s: float) -> bool:
        """Whether it has ended, or does so in time."""
        if self._child is None:
            return self.pid is None or await process_table.ended([self.pid], limit_s)
        with suppress(TimeoutError):
            async with asyncio.timeout(limit_s):
                await self._child.wait()
        return self._child.returncode is not None


def _command(control_fd: int) -> list[str]:
    level = logging.getLogger().getEffectiveLevel()
    options = ["--control-fd", str(control_fd), "--log-level", str(level), "--name", TEMPLATE]
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
        self._template: ForkServerProcess | None = None
        self._server: ForkServerProcess | None = None
        self._starting = asyncio.Lock()
        self._session: int | None = None  # of all processes that were forked
        self._renewing: set[asyncio.Task[None]] = set()
        self._stopped = False

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
        """Have the template fork a server, and start it first where there is none."""
        if self._server is not None:
            await self._bury(self._server, self._template)
        if self._template is None or not self._template.alive:
            if self._template is not None:
                await self._template.stop()
            self._stopped = False
            self._template = await ForkServerProcess.start(self._environ, self._on_ended)
            self._session = self._template.pid
        self._server = self._template.copy(SERVER)

    async def _bury(self, server: ForkServerProcess, parent: ForkServerProcess | None) -> None:
        """Return when a server that has died and all its workers have ended, so that their memory is free.
        `parent`: may have forked the server; then it ends also what the workers left behind."""
        if parent is not None and server.pid is not None:
            parent.kill(server.pid)
        await server.stop()
        await process_table.ended(server.workers, WORKERS_LIMIT_S)
        own = {each.pid for each in (self._template, server) if each is not None}
        if self._session is not None:
            await process_table.end_children(self._session, own, WORKERS_LIMIT_S)

    def _on_ended(self, process: ForkServerProcess) -> None:
        if not self._stopped:
            renewal = in_background(self._renew(process))
            self._renewing.add(renewal)
            renewal.add_done_callback(self._renewing.discard)

    async def _renew(self, process: ForkServerProcess) -> None:
        """Let one of the two fork the other, unless both have ended: then the next worker starts them."""
        if process.pid is None:  # it could not be forked
            await asyncio.sleep(BEAT_S)
        async with self._starting:
            server, template = self._server, self._template
            if server is None or template is None or self._stopped:
                return
            with suppress(OSError):  # that one has ended too
                if template.alive and not server.alive:
                    await self._start()
                elif server.alive and not template.alive:
                    await template.stop()
                    self._template = server.copy(TEMPLATE)

    async def stop(self) -> None:
        """End the fork server and all its workers."""
        self._stopped = True
        for renewal in self._renewing:
            renewal.cancel()
        for process in (self._server, self._template):
            if process is not None:
                await process.stop()


class ForkedProcess:
    """One worker process. Its pid is known when it has sent `Ready`."""

    def __init__(self, server: ForkServerProcess, end: socket.socket) -> None:
        self._server = server
        self._exit: asyncio.Future[int | None] | None = None
        self.end = end
        self.pid: int | None = None

    @property
    def lost(self) -> bool:
        """Its fork server has ended, and the process with it."""
        return not self._server.alive

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
