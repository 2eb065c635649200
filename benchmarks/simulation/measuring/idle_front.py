"""python -m benchmarks.simulation.measuring.idle_front

The container with its real front process and workers that compute nothing, so that its throughput is the
front's. IDLE_WORKER_MS sets the time of a batch.
"""

import asyncio
import os
import socket
import sys
from collections.abc import Mapping
from typing import Any, cast

from container.entrypoint import create_server
from container.request_log import RequestLog
from container.settings import Settings
from model_handler import logs
from model_handler.artifacts import inspection
from model_handler.artifacts.artifact import Artifact
from model_handler.engine.factory import assemble
from model_handler.options import EngineOptions
from model_handler.processes.forkserver_client import ForkServerClient
from model_handler.processes.inspector import Inspector
from model_handler.processes.prefork import PreforkPool
from model_handler.processes.quarantine import Quarantine
from model_handler.processes.supervisor import Supervisor

BATCH_MS = "IDLE_WORKER_MS"


def main() -> None:
    chosen = Settings.from_environ(os.environ)
    logs.configure(chosen.log_level, sys.stderr)
    forks = cast("ForkServerClient", IdleWorkers(os.environ.get(BATCH_MS, "0")))
    engine = assemble(
        chosen.engine,
        forks,
        cast("Inspector", DirectInspector(chosen.engine)),
        Quarantine(PreforkPool(forks), enabled=False),
        lambda device, *calls, alone=False: Supervisor(
            device, forks, chosen.engine.worker, *calls, alone=alone
        ),
    )
    create_server(chosen, engine, RequestLog(sys.stderr.fileno())).run()


class DirectInspector:
    """What the engine uses of an Inspector; reads artifacts in a thread."""

    def __init__(self, options: EngineOptions) -> None:
        self._options = options

    def start(self) -> None:
        """It has no process."""

    async def stop(self) -> None:
        """As `start`."""

    async def inspect(self, model_id: int, url: str, device: str) -> Artifact:
        options = self._options
        return await asyncio.to_thread(
            inspection.read,
            url,
            [str(root) for root in options.model_roots],
            default_task=options.default_task,
            dtype=options.dtype,
            device=device,
        )


class IdleWorkers:
    """What the engine uses of a ForkServerClient; starts idle workers."""

    def __init__(self, batch_ms: str) -> None:
        self._batch_ms = batch_ms

    async def fork(self, order: Mapping[str, Any], output: int | None = None) -> "IdleProcess":
        ours, theirs = socket.socketpair()
        with theirs:
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "benchmarks.simulation.measuring.idle_worker"),
                *(str(theirs.fileno()), self._batch_ms),
                pass_fds=[theirs.fileno()],
            )
        ours.setblocking(False)
        return IdleProcess(process, ours)

    async def stop(self) -> None:
        """Workers end with their sockets."""


class IdleProcess:
    """What the engine uses of a ForkedProcess."""

    def __init__(self, process: asyncio.subprocess.Process, end: socket.socket) -> None:
        self._process = process
        self.end = end
        self.pid: int | None = None

    def kill(self) -> None:
        if self._process.returncode is None:
            self._process.kill()

    async def exited(self) -> int | None:
        return await self._process.wait()


if __name__ == "__main__":
    main()
