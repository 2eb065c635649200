"""The front's side of a process that runs code from artifacts.

The process starts with the load of its first model and ends with the unload of its last. After a crash,
the next load starts another one. Invariants: when `unload` of the last model returns, the process and all
its descendants have ended; after repeated crashes, restarts are delayed and requests get the reason.
"""

import asyncio
import logging
import signal
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any

from model_handler.errors import (
    EngineError,
    InferenceFailed,
    InsufficientMemory,
    ModelLoadFailed,
    WorkerDied,
)
from model_handler.memory.pools import Footprint
from model_handler.messages import Done, Load, Run
from model_handler.model import Model
from model_handler.processes.backoff import Backoff
from model_handler.processes.forkserver_client import ForkedProcess
from model_handler.processes.link import Link
from model_handler.processes.prefork import PreforkPool

log = logging.getLogger(__name__)
START_LIMIT_S = 300.0  # the fork server may still be importing
UNLOAD_PATIENCE_S = 10.0
EXIT_PATIENCE_S = 1.0
PATIENCE_S = 0.5  # a load waits this long for the end of a backoff


class IsolatedProcess:
    """The worker of one model, or of all models with `option.isolation=shared`.

    `on_lost` is called when the process ended with models loaded. `on_growth` is called after each batch
    with what the only model of the process holds, and raises InsufficientMemory when that is too much.
    """

    def __init__(
        self,
        name: str,
        spares: PreforkPool,
        order: Mapping[str, Any],
        on_lost: Callable[["IsolatedProcess"], None],
        on_growth: Callable[[Model, Footprint], None],
    ) -> None:
        self._name = name
        self._spares = spares
        self._order = order
        self._on_lost = on_lost
        self._on_growth = on_growth
        self.models: dict[int, Model] = {}  # on it now
        self._process: ForkedProcess | None = None
        self._link: Link | None = None
        self._starting = asyncio.Lock()
        self._setbacks = Backoff()
        self._fate: asyncio.Task[EngineError] | None = None  # of the process before this one
        self._replaced_because: str | None = None

    # ---- load, unload ----

    async def load(self, model: Model) -> Footprint:
        """What the model holds. Raises the worker's error, and WorkerDied for a process that
        died on it or is being left alone; one that was killed for want of memory is InsufficientMemory.
        """
        assert model.artifact is not None
        artifact = model.artifact
        command = Load(
            model.model_id,
            str(artifact.path),
            artifact.task,
            artifact.dtype,
            artifact.convention,
            artifact.properties.concurrency or 1,
            model.info.name,
        )
        await self._peace()
        self.models[model.model_id] = model
        try:
            link = await self._running()
            loaded = await link.load(command)
            return Footprint(loaded.nbytes, loaded.main_nbytes)
        except WorkerDied:
            error = await self.fate()
            if isinstance(error, InferenceFailed):
                raise ModelLoadFailed(str(error)) from None
            raise error from None
        except EngineError as error:
            self._setbacks.note(str(error), _now())
            self.models.pop(model.model_id, None)
            await self._end_if_unused()
            raise

    async def unload(self, model: Model) -> int:
        """When this returns, the model's bytes are free. The process ends with its last model."""
        self.models.pop(model.model_id, None)
        if not await self._end_if_unused() and self._link is not None:
            try:
                async with asyncio.timeout(UNLOAD_PATIENCE_S):
                    return (await self._link.unload(model.model_id)).leaked_nbytes
            except TimeoutError:
                self.replace("a model was not unloaded in time")
            except WorkerDied:
                pass  # and its memory with it
        return 0

    async def _peace(self) -> None:
        """Wait for the end of a short backoff. Raises WorkerDied during a long one."""
        wait_s = self._setbacks.wait_s(_now())
        if wait_s > PATIENCE_S:
            times, reason = self._setbacks.count, self._setbacks.reason
            raise WorkerDied(
                f"failed {times} times in a row, next attempt in {wait_s:.0f} s: {reason}"
            )
        await asyncio.sleep(wait_s)

    # ---- batches ----

    async def run(self, command: Run) -> Done:
        if self._link is None:
            raise WorkerDied("the model's process is not running")
        try:
            done = await self._link.run(command)
        except WorkerDied:
            raise await self.fate() from None
        self._setbacks.forgive()
        self._check_growth(Footprint(done.held_nbytes, done.held_main_nbytes))
        return done

    def _check_growth(self, footprint: Footprint) -> None:
        """Replace a process that grew beyond its memory before it takes that of other models."""
        if not any(footprint) or len(self.models) != 1:
            return
        (model,) = self.models.values()
        try:
            self._on_growth(model, footprint)
        except InsufficientMemory:
            self.replace(f"it grew to {footprint.nbytes} bytes, for which there is no room")

    def replace(self, reason: str, culprit: int = 0) -> None:
        """End the process; the next load starts another one."""
        if self._link is not None:
            self._replaced_because = reason
            self._link.close()

    def stop(self) -> None:
        """Close the connection; the fork server ends the process when the engine stops."""
        link, self._link, self._process = self._link, None, None
        if link is not None:
            link.close()

    # ---- the process ----

    async def _running(self) -> Link:
        async with self._starting:
            if self._link is None:
                self._link = await self._start()
            return self._link

    async def _start(self) -> Link:
        """Raises ModelLoadFailed when no process starts."""
        try:
            spare = await self._spares.take(self._order)
        except OSError as error:
            raise ModelLoadFailed(f"no process for the model: {error}") from error
        process = spare.process
        await spare.output.follow(self._print)
        link = await Link.open(process.end, self._gone)
        self._process, self._replaced_because = process, None
        try:
            async with asyncio.timeout(START_LIMIT_S):
                process.pid = (await link.ready).pid
        except TimeoutError:
            link.close()
            raise ModelLoadFailed("the model's process did not start in time") from None
        except BaseException:
            link.close()
            raise
        log.info("process started", extra={"model": self._name, "worker": process.pid})
        return link

    def _print(self, line: str) -> None:
        log.info("output", extra={"model": self._name, "line": line})

    async def _end_if_unused(self) -> bool:
        """End the process when no model needs it; True when it has ended."""
        if self.models:
            return False
        link, self._link = self._link, None
        process, self._process = self._process, None
        if link is not None:
            link.close()
        if process is not None:
            process.kill()
            await process.exited()
        return True

    # ---- its death ----

    def _gone(self, reason: str) -> None:
        """Called by the link, before the calls that waited on it fail."""
        process, self._process = self._process, None
        if process is None:
            return  # it was ended
        self._link = None
        self._fate = asyncio.create_task(self._examine(process, self._replaced_because or reason))
        if self.models:
            self._on_lost(self)
            self.models.clear()

    async def fate(self) -> EngineError:
        """The error that requests get which waited for the last process that died."""
        if self._fate is None:
            return WorkerDied("the model's process ended")
        error = await asyncio.shield(self._fate)
        return type(error)(*error.args)

    async def _examine(self, process: ForkedProcess, reason: str) -> EngineError:
        status = None if self._replaced_because else await _ended_by_itself(process)
        process.kill()
        await process.exited()
        error = _cause(status, reason)
        self._setbacks.note(str(error), _now())
        extra = {"model": self._name, "worker": process.pid, "reason": str(error)}
        log.error("process died", extra=extra)
        return error

    @property
    def hopeless(self) -> bool:
        """Too many consecutive crashes: restart on the next request only."""
        return self._setbacks.wait_s(_now()) > PATIENCE_S


async def _ended_by_itself(process: ForkedProcess) -> int | None:
    """The exit status, if the process ends soon: its connection may end before it does."""
    with suppress(TimeoutError):
        async with asyncio.timeout(EXIT_PATIENCE_S):
            return await process.exited()
    return None


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
