"""Keeps one worker of the device running: starts it, and replaces it when it dies.

Invariants: at most one worker process at a time; before the next one starts, it is known what the last one
died of.
"""

import asyncio
import dataclasses
import logging
from collections.abc import Awaitable, Callable
from contextlib import suppress

from model_handler.background import in_background
from model_handler.errors import EngineError, ModelLoadFailed, Unavailable, WorkerDied
from model_handler.memory.pools import Footprint
from model_handler.messages import Done, Ready, Run
from model_handler.model import Model
from model_handler.options import WorkerOptions
from model_handler.processes import deaths
from model_handler.processes.backoff import Backoff
from model_handler.processes.deaths import Death
from model_handler.processes.forkserver_client import ForkServerClient
from model_handler.processes.worker_process import WorkerProcess
from model_handler.sharing.work_record import WorkRecord

log = logging.getLogger(__name__)
EXIT_LIMIT_S = 5.0
STATUS_LIMIT_S = 0.5  # wait for the exit status of a worker whose connection ended
SETTLED_S = 5.0  # a worker that runs this long counts as started
SICK_AFTER = 4  # starts in a row that failed
BACKOFF_LIMIT_S = 0.5  # as in isolated_process: longer delays end with a request


class Supervisor:
    """`on_ready` is called when a worker is ready, `on_lost` when it is lost, before any call to it fails,
    and `on_examined` when its death was examined, before the next one starts. That returns whether a model
    explains the death; other deaths soon after a start count as failed starts.

    `alone`: the worker is for one model. Each of its deaths delays the next start, and after a long delay the
    worker starts with the next request. Meanwhile requests get WorkerDied, with the reason and the delay.
    """

    def __init__(
        self,
        device: str,
        forks: ForkServerClient,
        options: WorkerOptions,
        on_ready: Callable[[Ready], None],
        on_lost: Callable[[], None],
        on_examined: Callable[[Death], bool],
        *,
        alone: bool = False,
    ) -> None:
        self._order = {"fork": "worker", "device": device, "options": dataclasses.asdict(options)}
        self._max_response_nbytes = options.max_response_nbytes
        self._forks = forks
        self._on_ready = on_ready
        self._on_lost = on_lost
        self._on_examined = on_examined
        self._alone = alone
        self._backoff = Backoff()
        self._worker: WorkerProcess | None = None
        self._record: WorkRecord | None = None  # of the worker that runs
        self._death: asyncio.Task[Death] | None = None  # of the last worker that was lost
        self._news = asyncio.Event()  # pulsed when a worker started and when a start failed
        self._wanted = asyncio.Event()  # set by those that wait for a worker
        self._keeper: asyncio.Task[None] | None = None
        self.stopped = False

    def start(self) -> None:
        """Start a worker in the background, unless one was started."""
        if self._keeper is None:
            self._keeper = in_background(self._keep())

    async def stop(self) -> None:
        """Return when the worker process has ended and its device memory is free."""
        self.stopped = True
        self._announce()
        keeper, self._keeper = self._keeper, None
        if keeper is not None:
            keeper.cancel()
            await asyncio.wait([keeper])
        worker, self._worker = self._worker, None
        if worker is not None:
            with suppress(TimeoutError):
                async with asyncio.timeout(EXIT_LIMIT_S):
                    await worker.end()
        if self._record is not None:
            self._record.close()

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
        """Raises ModelLoadFailed if the first load of a model crashed the worker: it would do so again."""
        worker = await self._running()
        try:
            return await worker.load(model)
        except WorkerDied:
            if model.ready or self._death is None:
                raise
            death = await asyncio.shield(self._death)
            if not death.crashed or model.model_id not in death.suspects:
                raise
            raise ModelLoadFailed(f"while it was loaded, {death.reason}") from None

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
            self._refuse_if_hopeless()
            self._wanted.set()
            await self._news.wait()
        return self._worker

    def _refuse_if_hopeless(self) -> None:
        if self.stopped:
            raise WorkerDied("the worker was stopped")
        if not self._alone:
            if (sickness := self.sickness()) is not None:
                raise Unavailable(sickness)
            return
        wait_s, backoff = self._backoff.wait_s(asyncio.get_running_loop().time()), self._backoff
        if wait_s > BACKOFF_LIMIT_S:
            raise WorkerDied(
                f"the model ended its own process {backoff.failures} times in a row,"
                f" next attempt in {wait_s:.0f} s: {backoff.reason}"
            )

    async def attempted(self) -> None:
        """Return when a worker runs, the next attempt to start one has failed, or none will be started."""
        if self._worker is None and not self.stopped:
            await self._news.wait()

    async def available(self) -> None:
        """Return when a worker runs. Raises Unavailable after several failed starts, see also `alone`."""
        await self._running()

    # ---- life ----

    async def _keep(self) -> None:
        """Start a worker, wait for its end, start the next."""
        loop = asyncio.get_running_loop()
        while True:
            await self._due(loop)
            try:
                await self._outlive(await self._start(), loop)
            except (OSError, EngineError) as error:
                self._not_started(str(error) or repr(error))
            except Exception as mistake:  # one of ours: it must not be the end of all starts
                log.critical("worker not used", exc_info=mistake)
                self._not_started(f"unexpected {type(mistake).__name__}")

    async def _due(self, loop: asyncio.AbstractEventLoop) -> None:
        """Return when the next start is due."""
        wait_s = self._backoff.wait_s(loop.time())
        self._wanted.clear()
        await asyncio.sleep(wait_s)
        if self._alone and wait_s > BACKOFF_LIMIT_S:
            await self._wanted.wait()

    def _not_started(self, reason: str) -> None:
        self._backoff.note(reason, asyncio.get_running_loop().time())
        log.error("worker did not start", extra={"reason": reason})
        self._announce()

    async def _outlive(self, worker: WorkerProcess, loop: asyncio.AbstractEventLoop) -> None:
        """Wait until the worker ends and its death was examined."""
        settled = loop.call_later(SETTLED_S, self._backoff.reset)
        await worker.ended.wait()
        settled.cancel()
        soon = loop.time() < settled.when()
        assert self._death is not None
        death = await self._death
        explained = self._on_examined(death)
        if death.lost:
            return
        if self._alone:
            self._backoff.note(death.reason, loop.time())
            self._announce()  # to those that would wait for longer than BACKOFF_LIMIT_S
        elif soon and not explained:
            self._backoff.note("the last one ended soon after its start", loop.time())

    async def _start(self) -> WorkerProcess:
        record = WorkRecord()
        try:
            process = await self._forks.fork(self._order, record.fd)
            worker = await WorkerProcess.start(process, self._lost, self._max_response_nbytes)
        except BaseException:
            record.close()
            raise
        log.info("worker ready", extra={"worker": worker.pid, "device": worker.ready.device})
        self._worker, self._record = worker, record
        try:
            self._on_ready(worker.ready)
        except BaseException:
            self._worker = self._record = None
            record.close()
            await worker.end()
            raise
        self._announce()
        return worker

    def _announce(self) -> None:
        self._news.set()
        self._news = asyncio.Event()

    def _lost(self, worker: WorkerProcess) -> None:
        self._worker = None
        record, self._record = self._record, None
        assert record is not None
        self._death = asyncio.create_task(self._examine(worker, record))
        self._on_lost()

    async def _examine(self, worker: WorkerProcess, record: WorkRecord) -> Death:
        """What it died of. Ends the process if it has not ended: its connection may have ended before."""
        known = worker.explained or worker.replaced
        status = None if known else await worker.ended_by_itself(STATUS_LIMIT_S)
        work = record.read()
        record.close()
        worker.kill()
        if known:
            of = deaths.of_poison if worker.explained else deaths.of_replacement
            death = of(worker.reason, worker.culprit, work)
        elif status is None and worker.lost:
            death = Death("the fork server ended, and its workers with it", lost=True)
        else:
            death = deaths.of_crash(status, work)
        facts = {"worker": worker.pid, "reason": death.reason, "trace": work.trace}
        log.error("worker lost", extra=facts | {"suspects": sorted(death.suspects)})
        return death
