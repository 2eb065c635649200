"""Keeps one worker of the device running: starts it, and replaces it when it dies.

Invariant: at most one worker process at a time.
"""

import asyncio
import dataclasses
import logging
from collections.abc import Awaitable, Callable
from contextlib import suppress

from model_handler.background import in_background
from model_handler.errors import EngineError, Unavailable, WorkerDied
from model_handler.memory.pools import Footprint
from model_handler.messages import Done, Ready, Run
from model_handler.model import Model
from model_handler.options import WorkerOptions
from model_handler.processes.backoff import Backoff
from model_handler.processes.forkserver_client import ForkServerClient
from model_handler.processes.worker_process import WorkerProcess

log = logging.getLogger(__name__)
EXIT_LIMIT_S = 5.0
SETTLED_S = 5.0  # a worker that runs this long counts as started
SICK_AFTER = 4  # starts in a row that failed


class Supervisor:
    """`on_ready` is called when a worker is ready, `on_lost` with the model_id to blame when it is lost."""

    def __init__(
        self,
        device: str,
        forks: ForkServerClient,
        options: WorkerOptions,
        on_ready: Callable[[Ready], None],
        on_lost: Callable[[int], None],
    ) -> None:
        self._order = {"fork": "worker", "device": device, "options": dataclasses.asdict(options)}
        self._max_response_nbytes = options.max_response_nbytes
        self._forks = forks
        self._on_ready = on_ready
        self._on_lost = on_lost
        self._backoff = Backoff()
        self._worker: WorkerProcess | None = None
        self._news = asyncio.Event()  # pulsed when a worker started and when a start failed
        self._keeper: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Start a worker in the background, unless one was started."""
        if self._keeper is None:
            self._keeper = in_background(self._keep())

    async def stop(self) -> None:
        """Return when the worker process has ended and its device memory is free."""
        keeper, self._keeper = self._keeper, None
        if keeper is not None:
            keeper.cancel()
            await asyncio.wait([keeper])
        worker, self._worker = self._worker, None
        if worker is not None:
            with suppress(TimeoutError):
                async with asyncio.timeout(EXIT_LIMIT_S):
                    await worker.end()

    def sickness(self) -> str | None:
        """Why no worker runs, after several failed starts in a row; None otherwise."""
        if self._keeper is not None and self._keeper.done():
            return "no worker will be started any more"  # a mistake of ours ended the keeper
        if self._worker is not None or self._backoff.failures < SICK_AFTER:
            return None
        return f"no worker came up in {self._backoff.failures} attempts: {self._backoff.reason}"

    def replace(self, reason: str, culprit: int = 0) -> None:
        """End the running worker; another one is started. `culprit`: the model_id to blame."""
        if self._worker is not None:
            self._worker.replace(reason, culprit)

    @property
    def running(self) -> bool:
        return self._worker is not None

    @property
    def failing(self) -> bool:
        """No worker runs, and the last attempt to start one failed."""
        return self._worker is None and self._backoff.failures > 0

    # ---- what the worker does ----

    async def load(self, model: Model) -> Footprint:
        return await (await self._running()).load(model)

    async def demote(self, model: Model) -> int:
        return 0 if self._worker is None else await self._worker.demote(model)

    async def unload(self, model: Model) -> int:
        return 0 if self._worker is None else await self._worker.unload(model)

    async def trim(self) -> int | None:
        return None if self._worker is None else await self._worker.trim()

    def run(self, command: Run) -> Awaitable[Done]:
        if self._worker is None:
            raise WorkerDied("no worker is running")
        return self._worker.run(command)

    async def _running(self) -> WorkerProcess:
        while self._worker is None:
            if (sickness := self.sickness()) is not None:
                raise Unavailable(sickness)
            await self._news.wait()
        return self._worker

    async def attempted(self) -> None:
        """Return when a worker runs, or the next attempt to start one has failed."""
        if self._worker is None:
            await self._news.wait()

    async def available(self) -> None:
        """Return when a worker runs. Raises Unavailable after several failed starts."""
        await self._running()

    # ---- life ----

    async def _keep(self) -> None:
        """Start a worker, wait for its end, start the next."""
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(self._backoff.wait_s(loop.time()))
            try:
                worker = await self._start()
            except (OSError, EngineError) as error:
                self._not_started(str(error) or repr(error))
            except Exception as error:  # one of ours, in what is done with a worker that is ready
                log.critical("worker not used", exc_info=error)
                self._not_started(f"unexpected {type(error).__name__}")
            else:
                await self._outlive(worker, loop)

    def _not_started(self, reason: str) -> None:
        self._backoff.note(reason, asyncio.get_running_loop().time())
        log.error("worker did not start", extra={"reason": reason})
        self._announce()

    async def _outlive(self, worker: WorkerProcess, loop: asyncio.AbstractEventLoop) -> None:
        """Wait until the worker ends; an end soon after the start counts as a failed start."""
        settled = loop.call_later(SETTLED_S, self._backoff.reset)
        await worker.ended.wait()
        settled.cancel()
        if loop.time() < settled.when():
            self._backoff.note("the last one ended soon after its start", loop.time())

    async def _start(self) -> WorkerProcess:
        process = await self._forks.fork(self._order)
        worker = await WorkerProcess.start(process, self._lost, self._max_response_nbytes)
        log.info("worker ready", extra={"worker": worker.pid, "device": worker.ready.device})
        self._worker = worker
        try:
            self._on_ready(worker.ready)
        except BaseException:
            self._worker = None
            await worker.end()
            raise
        self._announce()
        return worker

    def _announce(self) -> None:
        self._news.set()
        self._news = asyncio.Event()

    def _lost(self, worker: WorkerProcess) -> None:
        self._worker = None
        worker.kill()  # its connection may end before the process does
        extra = {"worker": worker.pid, "reason": worker.reason, "culprit": worker.culprit}
        log.error("worker lost", extra=extra)
        self._on_lost(worker.culprit)
