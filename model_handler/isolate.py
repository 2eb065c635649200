"""The process that runs code out of artifacts: apart from the device's worker and from other models.

The artifact's code has the main thread, as under multi-model-server, unless it may be given several
requests at a time. Always true: one answer per request, from this process and not from what it forked;
when the socket ends, so does the process, whatever the code is doing.

    reader thread ──► main thread: loads, unloads, requests one after the other
                  └─► a model's own threads, where its concurrency is more than 1
"""

import contextlib
import functools
import gc
import logging
import os
import queue
import resource
import socket
import sys
import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NoReturn

import torch

from model_handler import forward, logs, precision
from model_handler.device import CpuDevice, CudaDevice, Device, is_sticky
from model_handler.errors import ModelNotFound
from model_handler.messages import (
    Done,
    FrameBuffer,
    InferenceRequest,
    InferenceResponse,
    Load,
    Loaded,
    LoadFailed,
    Poisoned,
    Ready,
    Refusal,
    Report,
    Run,
    Unload,
    Unloaded,
    decode_command,
    frame,
)
from model_handler.scripted import Script, refusals
from model_handler.scripted.opening import open_script
from model_handler.threads import tokenize_with

log = logging.getLogger(__name__)
RECEIVE_NBYTES = 1 << 20
PAGE_NBYTES = resource.getpagesize()
WORTH_COUNTING_NBYTES = 16 << 20
NAME = Path("/proc/self/comm")
FIRST_TO_GO = "1000"  # proc(5), oom_score_adj: before the front and the device's worker


def main(end: socket.socket, order: Mapping[str, Any]) -> None:
    """Serve the socket until its end of file. `order`: what the front asked the fork server for."""
    gc.enable()
    os.setsid()  # signals that the code sends to its group are for it alone
    _keep_log()
    with contextlib.suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text(FIRST_TO_GO)
    if order["memory_nbytes"] is not None:
        _bound_memory(order["memory_nbytes"])
    torch.set_num_threads(1)  # many such processes share the cores
    tokenize_with(1)
    precision.multiply(order["device"], order.get("matmul_precision", precision.EXACT))
    store = order.get("requirements_dir")
    Isolate(end, order["device"], Path(store) if store else None, alone=order["alone"]).serve()


def _keep_log() -> None:
    """The log has a descriptor of its own: the code may close standard output and error."""
    stream = os.fdopen(os.dup(sys.stderr.fileno()), "w", encoding="utf-8", buffering=1)
    logs.redirect(stream)
    logging.raiseExceptions = False  # what cannot be logged is lost, and nothing else is


def _bound_memory(nbytes: int) -> None:
    """What is allocated beyond is a MemoryError here, before the kernel looks for somebody to kill.

    A little more than the budget: growth in small steps is seen, and ended, by the ledger first.
    """
    data_pages = int(Path("/proc/self/statm").read_text().split()[5])
    limit = data_pages * PAGE_NBYTES + nbytes + nbytes // 4
    resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))


class Isolate:
    """`store`: where requirements go, if they are installed. `alone`: this process is for one model."""

    def __init__(self, end: socket.socket, device: str, store: Path | None, *, alone: bool) -> None:
        self._end = end
        self._device = device
        self._store = store
        self._alone = alone
        self._pid = os.getpid()
        self._sending = threading.Lock()
        self._tasks: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()
        self._scripts: dict[int, Script] = {}
        self._pools: dict[int, ThreadPoolExecutor] = {}
        self._counted_nbytes = (
            0  # of this process, in what the models loaded until now were said to hold
        )
        self._loaded_nbytes = 0
        self._anonymous_at_load = 0

    def serve(self) -> NoReturn:
        os.register_at_fork(after_in_child=self._end.close)
        threading.Thread(target=self._read, name="reader", daemon=True).start()
        self._send(Ready(self._pid, self._device, 0, 0))
        while True:
            try:
                self._tasks.get()()
            except BaseException:  # the code may have set an alarm that raises between two requests
                log.exception("interrupted")

    def _read(self) -> None:
        """Ends the process with the socket, and when memory is too short to read from it."""
        frames, status = FrameBuffer(), 1
        try:
            while chunk := self._end.recv(RECEIVE_NBYTES):
                for payload in frames.feed(chunk):
                    self._accept(decode_command(payload))
            status = 0
        except OSError:
            status = 0  # the code closed the socket, or the front is gone
        finally:
            os._exit(status)

    def _accept(self, command: Load | Unload | Run) -> None:
        match command:
            case Load():
                self._tasks.put(functools.partial(self._load, command))
            case Unload():
                self._tasks.put(functools.partial(self._unload, command.model_id))
            case Run():
                task = functools.partial(self._run, command)
                pool = self._pools.get(command.model_id)
                if pool is None:
                    self._tasks.put(task)
                else:
                    pool.submit(task)

    def _send(self, report: Report) -> None:
        if os.getpid() != self._pid:
            os._exit(0)  # a child that the artifact's code forked and let run on
        try:
            with self._sending:
                self._end.sendall(frame(report))
        except OSError:
            os._exit(1)  # the code closed the socket, or the front is gone

    # ---- loads ----

    def _load(self, command: Load) -> None:
        with contextlib.suppress(OSError):
            NAME.write_text("mme-isolate")
        began = time.monotonic()
        on_device = _allocated_nbytes()
        try:
            script = open_script(command, self._device, store=self._store, alone=self._alone)
        except BaseException as error:  # code out of an artifact raises anything, SystemExit too
            self._exit_if_sticky(error)
            self._send(LoadFailed(command.model_id, refusals.of_load(error)))
            return
        gc.collect()
        self._scripts[command.model_id] = script
        if command.concurrency > 1:
            self._pools[command.model_id] = ThreadPoolExecutor(command.concurrency)
        nbytes = self._grown_nbytes() if self._gpu() is None else _allocated_nbytes() - on_device
        self._loaded_nbytes, self._anonymous_at_load = nbytes, _anonymous_nbytes()
        self._send(Loaded(command.model_id, nbytes, time.monotonic() - began))

    def _grown_nbytes(self) -> int:
        """Since the load before; since the fork, for the first."""
        before, self._counted_nbytes = self._counted_nbytes, _private_nbytes()
        return max(0, self._counted_nbytes - before)

    def _gpu(self) -> int | None:
        kind, _, index = self._device.partition(":")
        return int(index or 0) if kind == "cuda" else None

    def _computing_on(self) -> Device:
        gpu = self._gpu()
        return CpuDevice() if gpu is None else CudaDevice(gpu)

    def _unload(self, model_id: int) -> None:
        self._scripts.pop(model_id, None)
        if (pool := self._pools.pop(model_id, None)) is not None:
            pool.shutdown(wait=False, cancel_futures=True)
        gc.collect()
        self._computing_on().empty_cache()
        self._counted_nbytes = _private_nbytes()
        self._send(Unloaded(model_id, 0))

    # ---- requests ----

    def _run(self, run: Run) -> None:
        began = time.monotonic()
        script = self._scripts.get(run.model_id)
        results: list[InferenceResponse | Refusal] = [
            self._answer(script, request) for request in run.requests
        ]
        self._send(Done(run.batch_id, results, 0.0, time.monotonic() - began, self._held_nbytes()))

    def _answer(
        self, script: Script | None, request: InferenceRequest
    ) -> InferenceResponse | Refusal:
        if script is None:
            return refusals.named(ModelNotFound("the model is not in this process"))
        try:
            return script(request)
        except BaseException as error:  # code out of an artifact raises anything, SystemExit too
            self._exit_if_sticky(refusals.cause(error))
            return refusals.of_request(error, request.body)

    def _held_nbytes(self) -> int:
        """What the model holds now: what it held after its load, and what came since."""
        grown = _anonymous_nbytes() - self._anonymous_at_load
        return max(0, self._loaded_nbytes + grown) if self._alone and self._gpu() is None else 0

    def _exit_if_sticky(self, error: BaseException) -> None:
        if is_sticky(error, self._computing_on()):
            self._send(Poisoned(forward.one_line(str(error))))
            os._exit(1)


# ---- memory ----


def _private_nbytes() -> int:
    """Written by this process and shared with nobody: what would come back if it ended.

    For the exact figure the kernel visits every page that is shared with the fork server, which takes
    longer than a small model's load. Of a process that hardly wrote, the faults say enough.
    """
    faulted = resource.getrusage(resource.RUSAGE_SELF).ru_minflt * PAGE_NBYTES
    if faulted < WORTH_COUNTING_NBYTES:
        return faulted
    for line in Path("/proc/self/smaps_rollup").read_text().splitlines():
        if line.startswith("Private_Dirty:"):
            return int(line.split()[1]) * 1024
    return faulted


def _anonymous_nbytes() -> int:
    """Cheap enough to be asked after every request; counts pages shared with the fork server too."""
    _, resident, shared, *_ = Path("/proc/self/statm").read_text().split()
    return (int(resident) - int(shared)) * PAGE_NBYTES


def _allocated_nbytes() -> int:
    started: bool = torch.cuda.is_initialized()  # type: ignore[no-untyped-call]
    return torch.cuda.memory_allocated() if started else 0
