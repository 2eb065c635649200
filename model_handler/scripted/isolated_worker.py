"""The process that runs code of artifacts, separate from the device worker.

The artifact's code runs on the main thread, as under multi-model-server, unless its concurrency is more than
1. Invariants: every request gets one answer, sent by this process and never by a child that the code forked.
The process exits when the socket closes, whatever the code is doing.

    reader thread ──► main thread: loads, unloads, requests one after the other
                  └─► a thread pool per model with a concurrency of more than 1
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

import msgspec
import torch

from model_handler import logs
from model_handler.device import named_memory, precision
from model_handler.device.device import CpuDevice, CudaDevice, Device, is_sticky, see_only
from model_handler.device.held_memory import PAGE_NBYTES, HeldMemory, end_beyond
from model_handler.device.tokenizer_threads import tokenize_with
from model_handler.errors import ModelNotFound
from model_handler.framing import FrontConnection
from model_handler.messages import (
    MAX_RESPONSE_NBYTES,
    Command,
    Done,
    InferenceRequest,
    InferenceResponse,
    Load,
    Loaded,
    LoadFailed,
    Ready,
    Refusal,
    Report,
    Run,
    Unload,
    Unloaded,
)
from model_handler.options import RequestLimits
from model_handler.scripted import Script, refusals
from model_handler.scripted.opening import open_script
from model_handler.sharing.work_record import MODEL
from model_handler.worker import request_errors, user
from model_handler.worker.threads import at_work

log = logging.getLogger(__name__)
ALLOCATOR = "PYTORCH_CUDA_ALLOC_CONF"
NAME = Path("/proc/self/comm")
FIRST_TO_GO = (
    "1000"  # proc(5), oom_score_adj: killed before the front process and the device worker
)


def main(end: socket.socket, order: Mapping[str, Any]) -> None:
    """Serve the socket until it closes. `order`: the fork request that the front process sent."""
    front = FrontConnection(end, order.get("max_response_nbytes", MAX_RESPONSE_NBYTES))
    try:
        _serve(end, front, order)
    except BaseException as error:  # noqa: BLE001  the front gets the reason, whatever it is
        front.fail(error, at_work.cell[MODEL])


def _serve(end: socket.socket, front: FrontConnection, order: Mapping[str, Any]) -> NoReturn:
    gc.enable()
    os.setsid()  # signals that the code sends to its process group reach only this process
    _keep_log()
    named_memory.take_group()
    with contextlib.suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text(FIRST_TO_GO)
    if order["memory_nbytes"] is not None:
        _bound_memory(order["memory_nbytes"])
    if (share := order.get("device_share")) is not None:
        _bound_device_memory(share)
    device = see_only(order["device"], os.environ)
    torch.set_num_threads(1)  # many such processes share the cores
    tokenize_with(1)
    precision.configure(device, order.get("matmul_precision", precision.EXACT))
    if order.get("change_user"):
        user.forbid_privileges()
    store = order.get("requirements_dir")
    held = HeldMemory(device, order.get("context_nbytes", 0), alone=order["alone"])
    limits = msgspec.convert(order.get("limits", {}), RequestLimits)
    os.register_at_fork(after_in_child=end.close)
    IsolatedWorker(front, device, Path(store) if store else None, held, limits).serve()


def _keep_log() -> None:
    """Log to a duplicated descriptor, because the code may close standard output and error."""
    stream = os.fdopen(os.dup(sys.stderr.fileno()), "w", encoding="utf-8", buffering=1)
    logs.redirect(stream)
    logging.raiseExceptions = (
        False  # a log record that cannot be written is dropped without an error
    )


def _bound_memory(nbytes: int) -> None:
    """Limit memory, so that exceeding it is a MemoryError here instead of the kernel's OOM killer.

    The limit is a quarter above the budget: on growth in small steps the ledger ends the process first. What
    the limit does not cover, shared memory above all, ends the process soon after it exceeds the same number.
    """
    data_pages = int(Path("/proc/self/statm").read_text().split()[5])
    limit = data_pages * PAGE_NBYTES + nbytes + nbytes // 4
    resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))
    end_beyond(nbytes + nbytes // 4)


def _bound_device_memory(share: float) -> None:
    """Limit this process to `share` of the device: exceeding it fails here and not in other processes.

    Set by PyTorch's environment variable, because the equivalent function would initialise CUDA in processes
    that never use it.
    """
    set_already = os.environ.get(ALLOCATOR)
    bound = f"per_process_memory_fraction:{share:.4f}"
    os.environ[ALLOCATOR] = f"{set_already},{bound}" if set_already else bound


class IsolatedWorker:
    """`store`: directory for installed requirements; None: requirements are not installed."""

    def __init__(
        self,
        front: FrontConnection,
        device: str,
        store: Path | None,
        held: HeldMemory,
        limits: RequestLimits,
    ) -> None:
        self._front = front
        self._device = device
        self._store = store
        self._held = held
        self._limits = limits
        self._pid = os.getpid()
        self._reported = True  # what the latest task has to report
        self._tasks: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()
        self._scripts: dict[int, Script] = {}
        self._pools: dict[int, ThreadPoolExecutor] = {}

    def serve(self) -> NoReturn:
        threading.Thread(target=self._read, name="reader", daemon=True).start()
        self._send(Ready(self._pid, self._device, 0, 0))
        while True:
            self._reported = True
            try:
                task = self._tasks.get()
                self._reported = False
                task()
            except BaseException as error:
                if not self._reported:
                    raise
                # A signal handler of the code raised between two requests
                log.error("interrupted", exc_info=error)

    def _read(self) -> None:
        """Exit the process when the socket closes, or when memory is too short to read from it."""
        try:
            for command in self._front.commands():
                self._accept(command)
        except OSError:
            pass  # the code closed the socket, or the front process is gone
        except BaseException as error:  # noqa: BLE001  no command must be lost in silence
            self._front.fail(error)
        os._exit(0)

    def _accept(self, command: Command) -> None:
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
                    pool.submit(self._all_of, task)
            case _:
                raise AssertionError(f"unexpected command: {command}")

    def _send(self, report: Report) -> None:
        if os.getpid() != self._pid:
            os._exit(0)  # a child that the artifact's code forked and that returned from it
        self._front.send(report)
        self._reported = True

    def _all_of(self, task: Callable[[], None]) -> None:
        """On a thread of a pool, which would keep an error to itself."""
        try:
            task()
        except BaseException as error:  # noqa: BLE001  its request would never be answered
            self._front.fail(error, at_work.cell[MODEL])

    # ---- loads ----

    def _load(self, command: Load) -> None:
        with contextlib.suppress(OSError):
            NAME.write_text("mme-isolated")
        at_work.cell[MODEL] = command.model_id
        began = time.monotonic()
        try:
            user.become(command)
            script = open_script(
                command,
                self._device,
                store=user.store(command, self._store),
                alone=self._held.alone,
                limits=self._limits,
            )
        except BaseException as error:  # noqa: BLE001  an artifact's code also raises SystemExit
            self._exit_if_sticky(error)
            self._send(LoadFailed(command.model_id, refusals.of_load(error)))
            return
        gc.collect()
        self._scripts[command.model_id] = script
        if command.concurrency > 1:
            self._pools[command.model_id] = ThreadPoolExecutor(command.concurrency)
        footprint = self._held.loaded()
        seconds = time.monotonic() - began
        self._send(Loaded(command.model_id, footprint.nbytes, seconds, footprint.main_nbytes))

    def _computing_on(self) -> Device:
        kind, _, index = self._device.partition(":")
        return CudaDevice(int(index or 0)) if kind == "cuda" else CpuDevice()

    def _unload(self, model_id: int) -> None:
        self._scripts.pop(model_id, None)
        if (pool := self._pools.pop(model_id, None)) is not None:
            pool.shutdown(wait=False, cancel_futures=True)
        gc.collect()
        self._held.unloaded()
        self._send(Unloaded(model_id, 0))

    # ---- requests ----

    def _run(self, run: Run) -> None:
        at_work.cell[MODEL] = run.model_id
        began = time.monotonic()
        script = self._scripts.get(run.model_id)
        results: list[InferenceResponse | Refusal] = [
            self._answer(script, request) for request in run.requests
        ]
        seconds = time.monotonic() - began
        held = self._held.now()
        self._send(Done(run.batch_id, results, 0.0, seconds, held.nbytes, held.main_nbytes))

    def _answer(
        self, script: Script | None, request: InferenceRequest
    ) -> InferenceResponse | Refusal:
        if script is None:
            return refusals.named(ModelNotFound("the model is not in this process"))
        try:
            return _checked(script(request))
        except BaseException as error:  # noqa: BLE001  an artifact's code also raises SystemExit
            self._exit_if_sticky(refusals.cause(error))
            return refusals.of_request(error, request.body)

    def _exit_if_sticky(self, error: BaseException) -> None:
        if is_sticky(error, self._computing_on()):
            self._front.end_process(
                f"the device cannot be used: {request_errors.one_line(str(error))}"
            )


def _checked(response: InferenceResponse) -> InferenceResponse:
    """Raises TypeError for parts that the front would not accept."""
    if not isinstance(response.body, bytes) or not isinstance(response.content_type, str):
        raise TypeError(f"the handler answered {type(response.body).__name__}, not bytes")
    return response
