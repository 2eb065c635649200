"""Has artifacts inspected in processes of their own: the front parses nothing of them.

Invariant: a load does not wait for the inspection of another one for longer than BUSY_S, as long as fewer
than MOST are in progress.
"""

import asyncio
import logging
from contextlib import suppress

import msgspec

from model_handler.artifacts.artifact import Artifact
from model_handler.errors import EngineError, InsufficientMemory, ModelLoadFailed, WorkerDied
from model_handler.messages import Inspect
from model_handler.options import EngineOptions
from model_handler.processes.prefork import PreforkPool
from model_handler.processes.reader import Reader, ReaderEnded

log = logging.getLogger(__name__)
MOST = 4  # processes
BUSY_S = 0.1  # then another process is started
LIMIT_S = 20.0  # for one inspection; its CPU time is limited to less


class Inspector:
    """Keeps one process ready, and starts more while that one is busy."""

    def __init__(self, spares: PreforkPool, options: EngineOptions) -> None:
        self._spares = spares
        self._options = options
        self._running = 0
        self._idle: asyncio.Queue[Reader] = asyncio.Queue()
        self._first: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Start the first process in the background."""
        self._first = asyncio.create_task(self._begin())

    async def _begin(self) -> None:
        with suppress(OSError, TimeoutError, EngineError):  # an inspection starts it, and raises
            self._give_back(await self._start())

    async def stop(self) -> None:
        """End the idle processes. The fork server ends the others."""
        if self._first is not None:
            self._first.cancel()
            await asyncio.wait([self._first])
        while not self._idle.empty():
            self._idle.get_nowait().close()
        self._spares.close()

    async def inspect(self, model_id: int, url: str, device: str) -> Artifact:
        """Raises the errors of `artifacts.inspection.read`; also ModelLoadFailed if the artifact ends or
        blocks the process that reads it. `device`: kind of the device."""
        options = self._options
        roots = [str(root) for root in options.model_roots]
        command = Inspect(model_id, url, roots, options.default_task, options.dtype, device)
        reader = await self._take()
        try:
            return await reader.inspect(command, LIMIT_S)
        except ReaderEnded as ended:
            raise _refused(ended) from None
        except InsufficientMemory:
            raise ModelLoadFailed("inspecting the artifact takes too much memory") from None
        except msgspec.ValidationError as error:
            raise ModelLoadFailed(f"the artifact cannot be inspected: {error}") from None
        finally:
            self._give_back(reader)

    async def _take(self) -> Reader:
        if self._first is not None:
            await asyncio.wait([self._first])
        while self._running:
            try:
                async with asyncio.timeout(BUSY_S if self._running < MOST else None):
                    reader = await self._idle.get()
            except TimeoutError:
                break
            if not reader.ended:
                return reader
            self._running -= 1
        return await self._start()

    async def _start(self) -> Reader:
        self._running += 1
        try:
            return await Reader.start(self._spares)
        except BaseException as error:
            self._running -= 1
            if isinstance(error, OSError):  # a TimeoutError too
                raise WorkerDied(f"no process to inspect the artifact: {error}") from None
            raise

    def _give_back(self, reader: Reader) -> None:
        """Keep one process idle. One that has ended is passed on too: whoever waits may start another."""
        if reader.ended or self._idle.empty():
            self._idle.put_nowait(reader)
        else:
            self._running -= 1
            reader.close()


def _refused(ended: ReaderEnded) -> EngineError:
    if ended.lost:
        return WorkerDied(str(ended))
    return ModelLoadFailed(f"inspecting the artifact {ended}")
