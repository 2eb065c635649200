"""The front's side of the fork server, which is started for the first worker and again after a crash.

Invariant: the exit of a worker is reported once; when the server dies, its workers count as ended.
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

log = logging.getLogger(__name__)
STOP_PATIENCE_S = 2.0


class ForkServerProcess:
    """The process that forks workers, and the control socket to it."""

    def __init__(self, process: asyncio.subprocess.Process, control: socket.socket) -> None:
        self._process = process
        self._control = control
        self._exits: dict[int, asyncio.Future[int | None]] = {}
        self._listener = asyncio.create_task(self._listen())

    @classmethod
    async def start(cls) -> Self:
        ours, theirs = socket.socketpair()
        with theirs:
            process = await asyncio.create_subprocess_exec(
                *_command(theirs.fileno()),
                pass_fds=[theirs.fileno()],
                env=os.environ | _ENVIRONMENT,
                stdin=asyncio.subprocess.DEVNULL,
                start_new_session=True,  # a terminal's ^C is for the front alone
            )
        ours.setblocking(False)
        return cls(process, ours)

    def fork(self, order: Mapping[str, Any], output: int | None) -> socket.socket:
        """Request a worker; returns our end of its socket. Raises OSError when the server has ended."""
        ours, theirs = socket.socketpair()
        fds = [theirs.fileno()] if output is None else [theirs.fileno(), output]
        with theirs:
            socket.send_fds(self._control, [json.dumps(order).encode() + b"\n"], fds)
        ours.setblocking(False)
        return ours

    def kill(self, pid: int) -> None:
        """End a worker. Its memory is free before the next fork."""
        with suppress(OSError):
            self._control.send(json.dumps({"kill": pid}).encode() + b"\n")

    def exited(self, pid: int) -> "asyncio.Future[int | None]":
        """The exit status of a worker forked here, set when it ends; None if unknown."""
        if self._listener.done():
            unknown: asyncio.Future[int | None] = asyncio.get_running_loop().create_future()
            unknown.set_result(None)
            return unknown
        return self._exits.setdefault(pid, asyncio.get_running_loop().create_future())

    @property
    def alive(self) -> bool:
        return self._process.returncode is None

    async def _listen(self) -> None:
        """Forward worker exit statuses until the fork server exits."""
        reader, writer = await asyncio.open_unix_connection(sock=self._control.dup())
        try:
            while line := await reader.readline():
                report = json.loads(line)
                log.info("worker exited", extra=report)
                self._note_exit(report["exited"], report["status"])
        finally:
            writer.close()
            for pid in list(self._exits):
                self._note_exit(pid, None)

    def _note_exit(self, pid: int, status: int | None) -> None:
        """Kept, since a status may arrive before it is asked for, and may be asked for twice."""
        news = self._exits.setdefault(pid, asyncio.get_running_loop().create_future())
        if not news.done():
            news.set_result(status)

    async def stop(self) -> None:
        """Close the control socket, so that it ends its workers and itself."""
        self._listener.cancel()
        await asyncio.wait([self._listener])
        self._control.close()
        try:
            async with asyncio.timeout(STOP_PATIENCE_S):
                await self._process.wait()
        except TimeoutError:  # it may be stuck in its imports
            self._process.kill()
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
    """Forks workers, and starts the fork server when none is running."""

    def __init__(self) -> None:
        self._server: ForkServerProcess | None = None
        self._starting = asyncio.Lock()

    async def fork(self, order: Mapping[str, Any], output: int | None = None) -> "ForkedProcess":
        """One worker for an order of `forkserver`'s protocol; `output`: descriptor for its output.

        Raises OSError when the server cannot be started or died just now.
        """
        async with self._starting:
            if self._server is None or not self._server.alive:
                await self._start()
        assert self._server is not None
        return ForkedProcess(self._server, self._server.fork(order, output))

    async def _start(self) -> None:
        await self.stop()
        self._server = await ForkServerProcess.start()

    async def stop(self) -> None:
        """End the fork server and all its workers."""
        if self._server is not None:
            await self._server.stop()


class ForkedProcess:
    """One worker process. Its pid is known when it has sent `Ready`."""

    def __init__(self, server: ForkServerProcess, end: socket.socket) -> None:
        self._server = server
        self.end = end
        self.pid: int | None = None

    def kill(self) -> None:
        """End it and its descendants, unless they have ended."""
        if self.pid is not None:
            self._server.kill(self.pid)

    async def exited(self) -> int | None:
        """The exit status when it has ended, negative for a signal; None if unknown."""
        if self.pid is None:
            return None  # it never came up: its end of the socket is closed, and it ends on that
        return await asyncio.shield(self._server.exited(self.pid))
