"""Keeps one worker of the device running: starts it, and replaces it when it dies.

Invariant: at most one worker process at a time.
"""

import asyncio
import dataclasses
import logging
from collections.abc import Awaitable, Callable
from contextlib import suppress
from types import TracebackType
from typing import Self

from model_handler.errors import EngineError, Unavailable, WorkerDied
from model_handler.memory.pools import Footprint
from model_handler.messages import Done, Load, Ready, Run, Unloaded
from model_handler.model import Model
from model_handler.options import WorkerOptions
from model_handler.processes.forkserver_client import ForkedProcess, ForkServerClient
from model_handler.processes.link import Link

log = logging.getLogger(__name__)
UNLOAD_PATIENCE_S = 30.0  # then the process is replaced, which frees its memory for certain
EXIT_PATIENCE_S = 5.0
START_LIMIT_S = 300.0  # imports from a cold disk, and the start of the GPU's driver
SETTLED_S = 5.0  # a worker that runs this long counts as started
BACKOFF_S = (
    0.0,
    0.1,
    0.5,
    1.0,
    2.0,
    5.0,
    10.0,
)  # before the next start, by the number of failed starts in a row
SICK_AFTER = 4  # starts in a row that failed


class Supervisor:
    """The front's side of one device worker: load, demote, unload, run."""

    def __init__(
        self, device: str, forks: ForkServerClient, options: WorkerOptions | None = None
    ) -> None:
        self._order = {
            "fork": "worker",
            "device": device,
            "options": dataclasses.asdict(options or WorkerOptions()),
        }
        self._forks = forks
        self._link: Link | None = None
        self._process: ForkedProcess | None = None
        self._news = asyncio.Event()  # pulsed when a worker started and when a start failed
        self._last_failure = ""
        self._failed_starts = 0
        self._keeper: asyncio.Task[None] | None = None
        self._culprit = 0  # the model that the present worker is being replaced for
        self.on_ready: Callable[[Ready], None] = lambda _: None
        self.on_lost: Callable[[int], None] = lambda _: None

    async def __aenter__(self) -> Self:
        self.start()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        tb: TracebackType | None,
    ) -> None:
        await self.stop()

    def start(self) -> None:
        """Start a worker in the background, unless one was started."""
        if self._keeper is None:
            self._keeper = asyncio.create_task(self._keep())

    async def stop(self) -> None:
        """Return when the worker process has ended and its device memory is free."""
        keeper, self._keeper = self._keeper, None
        if keeper is not None:
            keeper.cancel()
            await asyncio.wait([keeper])
        link, self._link = self._link, None
        process, self._process = self._process, None
        if link is not None:
            link.close()
        if process is not None:
            process.kill()
            with suppress(TimeoutError):
                async with asyncio.timeout(EXIT_PATIENCE_S):
                    await process.exited()

    def sickness(self) -> str | None:
        """Why no worker runs, after several failed starts in a row; None otherwise."""
        if self._keeper is not None and self._keeper.done():
            return "no worker will be started any more"  # a mistake of ours ended the keeper
        if self._link is not None or self._failed_starts < SICK_AFTER:
            return None
        return f"no worker came up in {self._failed_starts} attempts: {self._last_failure}"

    def replace(self, reason: str, culprit: int = 0) -> None:
        """End the running worker; another one is started. `culprit`: the model_id to blame."""
        if self._link is not None:
            log.error("worker replaced", extra={"reason": reason})
            self._culprit = culprit
            self._link.close()

    # ---- what the worker does ----

    async def load(self, model: Model) -> Footprint:
        assert model.artifact is not None
        artifact = model.artifact
        link = await self._live()
        command = Load(
            model.model_id,
            str(artifact.path),
            artifact.task,
            artifact.dtype,
            artifact.convention,
        )
        return Footprint((await link.load(command)).nbytes)

    async def demote(self, model: Model) -> int:
        return await self._free(lambda link: link.demote(model.model_id))

    async def unload(self, model: Model) -> int:
        return await self._free(lambda link: link.unload(model.model_id))

    async def trim(self) -> int | None:
        """Return the allocator's unused blocks; the free bytes of the device then, None if unknown."""
        if self._link is None:
            return None
        try:
            async with asyncio.timeout(UNLOAD_PATIENCE_S):
                return (await self._link.trim()).free_nbytes
        except (TimeoutError, WorkerDied):
            return None

    async def _free(self, ask: Callable[[Link], Awaitable[Unloaded]]) -> int:
        """The bytes that are still held afterwards."""
        if self._link is None:
            return 0
        try:
            async with asyncio.timeout(UNLOAD_PATIENCE_S):
                return (await ask(self._link)).leaked_nbytes
        except TimeoutError:
            self.replace("a model was not unloaded in time")
        except WorkerDied:
            pass  # and its memory with it
        return 0

    async def run(self, command: Run) -> Done:
        if self._link is None:
            raise WorkerDied("no worker is running")
        return await self._link.run(command)

    async def _live(self) -> Link:
        while self._link is None:
            if (sickness := self.sickness()) is not None:
                raise Unavailable(sickness)
            await self._news.wait()
        return self._link

    async def available(self) -> None:
        """Return when a worker runs. Raises Unavailable after several failed starts."""
        await self._live()

    # ---- life ----

    async def _keep(self) -> None:
        """Start a worker, wait for its end, start the next."""
        while True:
            await asyncio.sleep(BACKOFF_S[min(self._failed_starts, len(BACKOFF_S) - 1)])
            try:
                link = await self._start()
            except (OSError, EngineError) as error:
                self._failed_starts += 1
                self._last_failure = str(error) or repr(error)
                log.error("worker did not start", extra={"reason": self._last_failure})
                self._announce()
                continue
            await self._outlive(link)

    async def _outlive(self, link: Link) -> None:
        """Wait until the worker ends; an end soon after the start counts as a failed start."""
        loop = asyncio.get_running_loop()
        began = loop.time()
        settled = loop.call_later(SETTLED_S, self._started_well)
        await link.closed.wait()
        settled.cancel()
        if loop.time() - began < SETTLED_S:
            self._failed_starts += 1
            self._last_failure = "the last one ended soon after its start"

    def _started_well(self) -> None:
        self._failed_starts = 0

    async def _start(self) -> Link:
        process = await self._forks.fork(self._order)
        link = await Link.open(process.end, self._gone)
        try:
            async with asyncio.timeout(START_LIMIT_S):
                ready = await link.ready
        except (TimeoutError, asyncio.CancelledError):
            link.close()
            raise
        log.info("worker ready", extra={"worker": ready.pid, "device": ready.device})
        process.pid = ready.pid
        self._link, self._process = link, process
        self.on_ready(ready)
        self._announce()
        return link

    def _announce(self) -> None:
        self._news.set()
        self._news = asyncio.Event()

    def _gone(self, reason: str) -> None:
        """Called by the link, before the calls that waited on it fail."""
        if self._link is None:
            return  # it never came up, or we are stopping
        culprit = self._culprit or self._link.culprit
        self._link, self._culprit = None, 0
        assert self._process is not None
        self._process.kill()  # a link may end before its process does
        extra = {"worker": self._process.pid, "reason": reason, "culprit": culprit}
        log.error("worker lost", extra=extra)
        self.on_lost(culprit)
