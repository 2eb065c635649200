"""Opens an artifact with new content once in a process of its own, before a device worker opens it.

What ends that process, or does not come to an end in it, is refused with the reason, at its next load too;
no worker and no neighbour notices. Invariants: loads of the same content share one attempt; at most MOST
attempts are in progress. The memory of an attempt is within the model's reservation, plus a constant.

An artifact with code of its own is not opened here: it gets a process of its own anyway.
"""

import asyncio
import logging
import os
from collections import OrderedDict
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from model_handler.artifacts.artifact import Artifact
from model_handler.artifacts.conventions import Convention
from model_handler.artifacts.properties import Properties
from model_handler.errors import EngineError, InsufficientMemory, ModelLoadFailed, WorkerDied
from model_handler.model import Entry, Model, ModelInfo
from model_handler.processes.prefork import PreforkPool
from model_handler.processes.reader import Reader, ReaderEnded

log = logging.getLogger(__name__)
MOST = 3  # attempts at the same time
REMEMBERED = 1024  # contents
# Larger models only tokenize a text: a forward, which reads all weights, takes longer than opening them
COMPUTED_NBYTES = 64 << 20
# Memory: libraries that are imported and the stacks of their threads; then a copy of the weights in another
# data type, and their serialized form
MEMORY_NBYTES = (768 << 20) + (os.cpu_count() or 1) * (16 << 20)
MEMORY_FACTOR = 4
CPU_S = 10.0  # a tokenizer of 700,000 words takes 4
CPU_NBYTES_PER_S = 50 << 20  # opening takes a second of CPU time at most for each
TIME_S = 60.0  # for what waits without computing; more than CPU_S, for busy machines
TIME_NBYTES_PER_S = 20 << 20  # as CPU_NBYTES_PER_S, of time: from a slow disk, beside busy workers
# A busy or crowded machine may be the cause of what was only too slow or too large
LIMIT_REMEMBERED_S = 300.0
PREPARE_AFTER_S = 1.0  # the workers start meanwhile
SAMPLE = Path(__file__).parent / "sample"
SAMPLE_NBYTES = 1 << 20  # more than it takes


class Verdict(NamedTuple):
    """`reason`: why the content is refused; empty if it was opened. `until`: on the loop's clock."""

    reason: str
    until: float


class Quarantine:
    """`enabled`: False to let everything pass."""

    def __init__(self, spares: PreforkPool, *, enabled: bool) -> None:
        self._spares = spares
        self._enabled = enabled
        self._verdicts: OrderedDict[str, Verdict] = OrderedDict()
        self._attempts: dict[str, asyncio.Task[EngineError | None]] = {}
        self._slots = asyncio.Semaphore(MOST)
        self._kept: Reader | None = None
        self._preparing: asyncio.Task[None] | None = None
        self._stopped = False

    def start(self) -> None:
        """Keep a process ready, from a second later on: one that has opened an artifact before is faster."""
        if not self._enabled or self._stopped:
            return
        if self._preparing is None or self._preparing.done():
            self._preparing = asyncio.create_task(self._prepare())

    async def check(self, model: Model) -> None:
        """Return when the model's content was opened before, now or earlier.

        Raises ModelLoadFailed with the reason if it must not be opened, and the error of its load if there
        was one; WorkerDied if that could not be found out.
        """
        digest = model.artifact.digest
        if not self._enabled or not digest or model.alone:
            return
        verdict = self._verdict(digest)
        if verdict is None:
            attempt = self._attempts.get(digest) or self._begin(digest, model)
            error = await asyncio.shield(attempt)
            if error is not None:
                raise type(error)(*error.args)
        elif verdict.reason:
            raise ModelLoadFailed(verdict.reason)

    async def stop(self) -> None:
        """End the attempts in progress, and the processes."""
        self._stopped = True
        for task in [*self._attempts.values(), self._preparing]:
            if task is not None:
                task.cancel()
                await asyncio.wait([task])
        if self._kept is not None:
            self._kept.close()
            self._kept = None

    def _verdict(self, digest: str) -> Verdict | None:
        verdict = self._verdicts.get(digest)
        if verdict is None or verdict.until < asyncio.get_running_loop().time():
            return None
        self._verdicts.move_to_end(digest)
        return verdict

    def _remember(self, digest: str, reason: str, seconds: float = float("inf")) -> None:
        until = asyncio.get_running_loop().time() + seconds
        self._verdicts[digest] = Verdict(reason, until)
        self._verdicts.move_to_end(digest)
        if len(self._verdicts) > REMEMBERED:
            self._verdicts.popitem(last=False)

    # ---- attempts ----

    def _begin(self, digest: str, model: Model) -> "asyncio.Task[EngineError | None]":
        """A task of its own: others may wait for it when the load that began it was cancelled."""
        attempt = asyncio.create_task(self._attempt(digest, model))
        self._attempts[digest] = attempt
        attempt.add_done_callback(lambda _: self._attempts.pop(digest))
        return attempt

    async def _attempt(self, digest: str, model: Model) -> EngineError | None:
        """The error of the load. Remembers what the content did."""
        try:
            async with self._slots:
                await self._try_out(model)
        except ReaderEnded as ended:
            return self._refuse(digest, model, ended)
        except InsufficientMemory:
            reason = "the artifact takes far more memory to open and to ask than its files' size"
            self._remember(digest, reason, LIMIT_REMEMBERED_S)
            return ModelLoadFailed(reason)
        except EngineError as error:
            return error
        except OSError as error:
            return WorkerDied(f"no process to open the artifact first: {error}")
        self._remember(digest, "")
        return None

    def _refuse(self, digest: str, model: Model, ended: ReaderEnded) -> EngineError:
        if ended.lost:
            return WorkerDied(str(ended))
        reason = f"the artifact {ended} when it was opened, so it was not loaded"
        self._remember(digest, reason, float("inf") if ended.crashed else LIMIT_REMEMBERED_S)
        log.error("artifact refused", extra={"model": model.info.name, "reason": reason})
        return ModelLoadFailed(reason)

    async def _try_out(self, model: Model) -> None:
        """Try again if the process had opened another artifact before, or was lost with the fork server."""
        reader = await self._take()
        again = reader.used
        try:
            await self._ask(reader, model)
        except ReaderEnded as ended:
            if not (ended.lost or (again and ended.crashed)):
                raise
            await self._ask(await Reader.start(self._spares), model)

    async def _prepare(self) -> None:
        await asyncio.sleep(PREPARE_AFTER_S)
        if self._kept is not None and not self._kept.ended:
            return
        self._kept = None
        with suppress(OSError, EngineError, ReaderEnded):  # an attempt starts one, and raises
            reader = await Reader.start(self._spares)
            await self._ask(reader, _sample())
            reader.used = False  # the sample changes nothing: a crash is the next artifact's

    async def _ask(self, reader: Reader, model: Model) -> None:
        nbytes = model.artifact.nbytes
        try:
            await reader.try_out(
                model,
                memory_nbytes=MEMORY_NBYTES + MEMORY_FACTOR * nbytes,
                cpu_s=CPU_S + nbytes / CPU_NBYTES_PER_S,
                limit_s=TIME_S + nbytes / TIME_NBYTES_PER_S,
                computes=nbytes <= COMPUTED_NBYTES,
            )
        finally:
            self._give_back(reader)

    async def _take(self) -> Reader:
        reader, self._kept = self._kept, None
        if reader is not None and not reader.ended:
            return reader
        return await Reader.start(self._spares)

    def _give_back(self, reader: Reader) -> None:
        """Keep one process for the next artifact: it has imported and prepared what opening takes."""
        if self._kept is None and not reader.ended and not reader.slow:
            self._kept = reader
        else:
            reader.close()
        if self._kept is None:
            self.start()


def _sample() -> Model:
    """A tiny classifier for a process that has opened nothing yet. The first model takes a forked process
    several times as long as later ones: it gets copies of the pages that it writes to."""
    info = ModelInfo("(sample)", str(SAMPLE))
    artifact = Artifact(
        SAMPLE,
        Convention.HUGGING_FACE,
        "text-classification",
        "float32",
        SAMPLE_NBYTES,
        Properties(),
    )
    return Model(Entry(0, info), artifact)
