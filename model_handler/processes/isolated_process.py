"""Runs one process with code from artifacts: on demand, unlike a device worker.

The process starts with the load of its first model and ends with the unload of its last. After a crash,
the next load starts another one. Invariants: when `unload` of the last model returns, the process and all
its descendants have ended; after repeated crashes, restarts are delayed and requests get the reason.
"""

import asyncio
import dataclasses
import logging
import signal
from collections.abc import Callable

from model_handler.background import in_background
from model_handler.device import named_memory
from model_handler.errors import (
    EngineError,
    InferenceFailed,
    InsufficientMemory,
    ModelLoadFailed,
    WorkerDied,
)
from model_handler.memory.pools import Footprint
from model_handler.messages import Done, Run
from model_handler.model import Model
from model_handler.options import ProcessOptions
from model_handler.processes.backoff import Backoff
from model_handler.processes.prefork import PreforkPool
from model_handler.processes.worker_process import WorkerProcess

log = logging.getLogger(__name__)
BACKOFF_LIMIT_S = 0.5  # a load waits this long for the end of a backoff


class IsolatedProcess:
    """The worker of one model (`alone`), or of all models with `option.isolation=shared`.

    `models`: those that are loaded, by model_id. `on_lost` is called when the process ended with models
    loaded.
    """

    def __init__(
        self,
        name: str,
        spares: PreforkPool,
        options: ProcessOptions,
        on_lost: Callable[["IsolatedProcess"], None],
        *,
        alone: bool,
    ) -> None:
        self.models: dict[int, Model] = {}
        self._name = name
        self._spares = spares
        self._order = {"fork": "isolate", "alone": alone, **dataclasses.asdict(options)}
        self._max_response_nbytes = options.max_response_nbytes
        self._on_lost = on_lost
        self._worker: WorkerProcess | None = None
        self._group: int | None = None  # of the worker's files in shared memory
        self._starting = asyncio.Lock()
        self._backoff = Backoff()
        self._failure: asyncio.Task[EngineError] | None = None  # of the last worker that was lost

    @property
    def running(self) -> bool:
        return self._worker is not None

    @property
    def failing(self) -> bool:
        return self._worker is None and self._backoff.failures > 0

    # ---- what the worker does ----

    async def load(self, model: Model) -> Footprint:
        """Raises the worker's error, and WorkerDied if the process died or its restart is delayed; if it was
        killed for lack of memory, InsufficientMemory."""
        await self._backed_off()
        self.models[model.model_id] = model
        try:
            worker = await self._running()
        except EngineError as unstarted:
            log.error(
                "process did not start", extra={"model": self._name, "reason": str(unstarted)}
            )
            await self._not_loaded(model, unstarted)
            raise
        try:
            return await worker.load(model)
        except WorkerDied:
            error = await self.failure()
            if isinstance(error, InferenceFailed):
                raise ModelLoadFailed(str(error)) from None
            raise error from None
        except EngineError as refused:
            await self._not_loaded(model, refused)
            raise

    async def _not_loaded(self, model: Model, error: EngineError) -> None:
        """The process refused the model, or did not start (WorkerDied: it ended before it was ready)."""
        self._backoff.note(str(error), _now())
        self.models.pop(model.model_id, None)
        await self._end_if_unused()

    async def unload(self, model: Model) -> int:
        """When this returns, the model's bytes are free. The process ends with its last model."""
        self.models.pop(model.model_id, None)
        if self.models and self._worker is not None:
            return await self._worker.unload(model)
        await self._end_if_unused()
        return 0

    async def run(self, command: Run) -> Done:
        if self._worker is None:
            raise WorkerDied("the model's process is not running")
        try:
            done = await self._worker.run(command)
        except WorkerDied:
            raise await self.failure() from None
        self._backoff.reset()
        return done

    def replace(self, reason: str, culprit: int = 0) -> None:
        """End the process; the next load starts another one."""
        if self._worker is not None:
            self._worker.replace(reason, culprit)

    def stop(self) -> None:
        """Close the connection; the fork server ends the process when the engine stops."""
        worker, self._worker = self._worker, None
        if worker is not None:
            worker.close()

    # ---- life ----

    async def _backed_off(self) -> None:
        """Wait for the end of a short backoff. Raises WorkerDied during a long one."""
        wait_s = self._backoff.wait_s(_now())
        if wait_s > BACKOFF_LIMIT_S:
            times, reason = self._backoff.failures, self._backoff.reason
            raise WorkerDied(
                f"failed {times} times in a row, next attempt in {wait_s:.0f} s: {reason}"
            )
        await asyncio.sleep(wait_s)

    @property
    def backing_off(self) -> bool:
        """Too many consecutive crashes: restart on the next request only."""
        return self._backoff.wait_s(_now()) > BACKOFF_LIMIT_S

    async def _running(self) -> WorkerProcess:
        async with self._starting:
            if self._worker is None:
                self._worker = await self._start()
            return self._worker

    async def _start(self) -> WorkerProcess:
        """Raises ModelLoadFailed when no process starts."""
        try:
            spare = await self._spares.take(self._order)
            await spare.output.follow(self._print)
            worker = await WorkerProcess.start(spare.process, self._lost, self._max_response_nbytes)
            self._group = named_memory.group_of(worker.pid)
        except TimeoutError:
            raise ModelLoadFailed("the model's process did not start in time") from None
        except OSError as error:
            raise ModelLoadFailed(f"no process for the model: {error}") from error
        log.info("process started", extra={"model": self._name, "worker": worker.pid})
        return worker

    def _print(self, line: str) -> None:
        log.info("output", extra={"model": self._name, "line": line})

    async def _end_if_unused(self) -> None:
        if self.models:
            return
        worker, self._worker = self._worker, None
        if worker is not None:
            await self._end(worker, self._group)

    async def _end(self, worker: WorkerProcess, group: int | None) -> None:
        await worker.end()
        if group is not None and (nbytes := await asyncio.to_thread(named_memory.remove, group)):
            log.warning("files in /dev/shm removed", extra={"model": self._name, "nbytes": nbytes})

    def _lost(self, worker: WorkerProcess) -> None:
        self._worker = None
        self._failure = in_background(self._examine(worker, self._group))
        if self.models:
            self._on_lost(self)
            self.models.clear()

    async def failure(self) -> EngineError:
        """The error of requests that waited for the last process that died."""
        if self._failure is None:
            return WorkerDied("the model's process ended")
        error = await asyncio.shield(self._failure)
        return type(error)(*error.args)

    async def _examine(self, worker: WorkerProcess, group: int | None) -> EngineError:
        known = worker.replaced or worker.explained
        status = None if known else await worker.ended_by_itself()
        await self._end(worker, group)
        error = _cause(status, worker.reason)
        self._backoff.note(str(error), _now())
        extra = {"model": self._name, "worker": worker.pid, "reason": str(error)}
        log.error("process died", extra=extra)
        return error


def _cause(status: int | None, reason: str) -> EngineError:
    """SIGKILL for a process that we did not end comes from the kernel, for lack of memory."""
    if status == -signal.SIGKILL:
        return InsufficientMemory("the model's process was killed, as the kernel does for memory")
    if status is not None and status < 0:
        return InferenceFailed(f"the model's process was ended by {signal.Signals(-status).name}")
    if status is not None:
        return InferenceFailed(f"the model's code ended its process with status {status}")
    return WorkerDied(reason)


def _now() -> float:
    return asyncio.get_running_loop().time()
