"""The process that reads artifacts before anything else does, and may be ended by what it reads.

It inspects them for the front, and opens those with new content once, as a device worker would: on the CPU,
with limits of memory and CPU time. It computes on one thread and never uses a GPU. The front measures the
time, and ends the process if a command takes too long.
"""

import contextlib
import functools
import gc
import logging
import math
import os
import resource
import socket
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from model_handler import logs
from model_handler.artifacts import inspection, weights
from model_handler.artifacts.conventions import Convention
from model_handler.device import precision
from model_handler.device.device import CpuDevice
from model_handler.device.held_memory import PAGE_NBYTES, anonymous_nbytes
from model_handler.device.tokenizer_threads import tokenize_with
from model_handler.errors import EngineError, InsufficientMemory, ModelLoadFailed
from model_handler.framing import FrontConnection
from model_handler.handlers import Handler, onnx_graphs
from model_handler.handlers.tensors import ArrayHandler
from model_handler.loading import formats, loader
from model_handler.loading.formats import FormatLoader
from model_handler.loading.loader import TorchLoader
from model_handler.loading.processors import Processors
from model_handler.loading.structure_cache import StructureCache
from model_handler.messages import (
    Command,
    Inspect,
    Inspected,
    Load,
    Loaded,
    LoadFailed,
    Ready,
    Refusal,
    Report,
    TryOut,
)
from model_handler.sharing.turnstile import Turnstile
from model_handler.worker import probe
from model_handler.worker.request_errors import one_line

log = logging.getLogger(__name__)
# Limits of one inspection. A JSON document takes up to 30 times its size as Python objects
INSPECTION_NBYTES = 512 << 20
INSPECTION_CPU_S = 5.0
STRUCTURES = 16  # that are kept
KEPT_ENTRIES = 50_000  # of unused tokenizers' vocabularies: one of usual size
GROWN_NBYTES = 96 << 20  # a process that has grown by more ends after its answer
FIRST_TO_GO = "1000"  # proc(5), oom_score_adj: killed before all other processes


def keep_log() -> None:
    """Log to a duplicate of standard error, which is then redirected for what libraries print."""
    logs.redirect(os.fdopen(os.dup(sys.stderr.fileno()), "w", encoding="utf-8", buffering=1))


def main(end: socket.socket) -> None:
    """Serve the socket until the front closes it."""
    gc.enable()
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    with contextlib.suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text(FIRST_TO_GO)
    torch.set_num_threads(1)
    onnx_graphs.set_pool_threads(1)
    tokenize_with(1)
    ArtifactReader().serve(end)


class _Structures(StructureCache):
    """Learns a structure when the answer is sent: that takes as long as building it."""

    def __init__(self) -> None:
        super().__init__(STRUCTURES)
        self._seen: Callable[[], bool] | None = None

    def learn(self, key: str, model: Any, files: list[Path]) -> bool:
        self._seen = functools.partial(super().learn, key, model, files)
        return False

    def learn_seen(self) -> None:
        seen, self._seen = self._seen, None
        if seen is not None:
            seen()


class ArtifactReader:
    """Carries out one command after the other."""

    def __init__(self) -> None:
        self._device = CpuDevice()
        self._structures = _Structures()
        self._opened: Handler | None = None
        self._loader = TorchLoader(
            self._device,
            Turnstile(),
            processors=Processors(KEPT_ENTRIES),
            structure_cache=self._structures,
        )
        self._formats = FormatLoader(self._device)

    def serve(self, end: socket.socket) -> None:
        front = FrontConnection(end)
        front.send(Ready(os.getpid(), self._device.name, 0, 0))
        held = anonymous_nbytes()
        for command in front.commands():
            front.send(self._answer(command))
            self._close()
            if anonymous_nbytes() - held > GROWN_NBYTES:
                return

    def _answer(self, command: Command) -> Report:
        match command:
            case Inspect(model_id):
                _limit(INSPECTION_NBYTES, INSPECTION_CPU_S)
                return _guarded(model_id, lambda: _inspected(command))
            case TryOut(load):
                _limit(command.memory_nbytes, command.cpu_s)
                return _guarded(load.model_id, lambda: self._tried(command))
            case _:
                raise AssertionError(f"unexpected command: {command}")

    def _tried(self, command: TryOut) -> Loaded:
        began, load = time.monotonic(), command.load
        self._opened = handler = self._open(load, as_stored=not command.computes)
        probe.run(handler, self._device, computes=command.computes)
        return Loaded(load.model_id, handler.nbytes, time.monotonic() - began)

    def _close(self) -> None:
        """Free the model that was opened; its load does not wait for that."""
        self._structures.learn_seen()
        handler, self._opened = self._opened, None
        if handler is not None:
            owner = self._formats if isinstance(handler, ArrayHandler) else self._loader
            owner.unload(handler)
            gc.collect()

    def _open(self, load: Load, *, as_stored: bool) -> Handler:
        if load.convention in formats.CONVENTIONS:
            return self._formats.load(Path(load.path), Convention(load.convention))
        dtype = _stored_dtype(Path(load.path), load.dtype) if as_stored else load.dtype
        return self._loader.load(load.path, load.task, dtype)


def _stored_dtype(path: Path, otherwise: str) -> str:
    name = str(loader.stored_dtype(weights.files(path))).removeprefix("torch.")
    return name if name in precision.DTYPES else otherwise


def _inspected(command: Inspect) -> Inspected:
    found = inspection.read(
        command.url,
        command.roots,
        default_task=command.default_task,
        dtype=command.dtype,
        device=command.device,
    )
    return Inspected(command.model_id, inspection.to_wire(found))


# ---- limits and errors ----


def _limit(memory_nbytes: int, cpu_s: float) -> None:
    """Limit what the process allocates and computes from now on.

    Beyond the first, allocations fail; beyond the second, the kernel ends it by SIGXCPU.
    """
    data_nbytes = int(Path("/proc/self/statm").read_text().split()[5]) * PAGE_NBYTES
    _soften(resource.RLIMIT_DATA, data_nbytes + memory_nbytes)
    _soften(resource.RLIMIT_CPU, math.ceil(time.process_time() + cpu_s))


def _soften(limit: int, value: int) -> None:
    """Set the soft limit, which the next command may raise again."""
    _, hard = resource.getrlimit(limit)
    resource.setrlimit(limit, (value if hard < 0 else min(value, hard), hard))


def _guarded(model_id: int, work: Callable[[], Report]) -> Report:
    """The report, of whatever was raised too: libraries also raise BaseExceptions."""
    try:
        return work()
    except BaseException as error:  # noqa: BLE001  see above
        return LoadFailed(model_id, _refusal(error))


def _refusal(error: BaseException) -> Refusal:
    if isinstance(error, EngineError):
        return Refusal(type(error).__name__, str(error))
    if isinstance(error, MemoryError):
        return Refusal(InsufficientMemory.__name__, "memory")
    log.warning("artifact not read", exc_info=error)
    return Refusal(ModelLoadFailed.__name__, f"{type(error).__name__}: {one_line(str(error))}")
