"""The process that owns one device: loads models and runs their batches, one thread per kind of work.

Invariant: the process exits when its socket is closed.

    reader (main thread) ──► loading thread      one load after the other
                         ├─► unloading thread    unloads, demotions, trims: these do not wait for loads
                         └─► host threads ──► device thread  ──► host threads
                             prepare n+1      forward n          finish n, send
                             (and quick forwards on a CPU)
                                         └──► generating threads
                                              forward n, giving way between tokens
"""

import functools
import gc
import logging
import os
import socket
import sys
import time
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future
from pathlib import Path

import torch

from model_handler.artifacts import tasks
from model_handler.artifacts.conventions import Convention
from model_handler.device import device as devices
from model_handler.device import precision
from model_handler.device.device import Device, is_sticky
from model_handler.device.held_memory import anonymous_nbytes
from model_handler.device.tokenizer_threads import tokenize_with, tokenizing
from model_handler.errors import InsufficientMemory, ModelNotFound
from model_handler.framing import FrontConnection
from model_handler.handlers import Handler, onnx_graphs
from model_handler.handlers.tensors import ArrayHandler
from model_handler.loading import formats
from model_handler.loading.formats import FormatLoader
from model_handler.loading.loader import TorchLoader
from model_handler.messages import (
    Command,
    Demote,
    Done,
    InferenceRequest,
    InferenceResponse,
    Load,
    Loaded,
    LoadFailed,
    Poisoned,
    Ready,
    Refusal,
    Run,
    Trim,
    Trimmed,
    Unload,
    Unloaded,
)
from model_handler.options import WorkerOptions
from model_handler.sharing import turnstile
from model_handler.sharing.turnstile import GENERATIONS, Turn, Turnstile, WorkKind
from model_handler.sharing.work_record import MODEL
from model_handler.worker import forward, request_errors, user, warmup
from model_handler.worker.host_threads import HostTask, HostThreads
from model_handler.worker.loaded_models import Kept, LoadedModel, LoadedModels, Work, after
from model_handler.worker.threads import WorkerThread, at_work

log = logging.getLogger(__name__)
# Longest time for which a thread that prepares or finishes holds the GIL while another waits for it. The
# default of 5 ms is longer than many forwards.
SWITCH_INTERVAL_S = 0.0005
# On a CPU, loads and unloads of models compete with forwards for the cores. At 10, a load gets a tenth of a
# core beside a busy thread; at 19, a seventieth, with which loads on a busy machine take too long.
LOADING_NICENESS = 10
# A forward that is expected to take less is computed by the thread that prepared it, if no other computes: to
# hand it over to another thread costs about 0.1 ms.
QUICK_S = 0.01
UNUSABLE = "the device cannot be used"


def main(end: socket.socket, device_name: str, options: WorkerOptions | None = None) -> None:
    """Serve the socket until the front closes it."""
    options = options or WorkerOptions()
    front = FrontConnection(end, options.max_response_nbytes)
    try:
        _serve(front, device_name, options)
    except ConnectionError:
        raise
    except BaseException as error:  # noqa: BLE001  the front gets the reason, whatever it is
        front.fail(error)


def _serve(front: FrontConnection, device_name: str, options: WorkerOptions) -> None:
    gc.enable()
    sys.setswitchinterval(SWITCH_INTERVAL_S)
    try:
        device = devices.parse(device_name)
    except ValueError as error:
        log.critical("no device", extra={"wanted": device_name, "reason": str(error)})
        front.send(Poisoned(f"{UNUSABLE}: {error}"))
        return
    log.info("device", extra=devices.facts(device))
    precision.configure(device.name, options.matmul_precision)
    tokenize_with(tokenizing(device.torch_device, len(os.sched_getaffinity(0))))
    Worker(front, device, options).serve()


class Worker:
    """Executes the commands of the front on one device."""

    def __init__(self, front: FrontConnection, device: Device, options: WorkerOptions) -> None:
        self._front = front
        self._send = front.send
        self._device = device
        self._warms_up = options.warmup
        self._on_cpu = device.torch_device.type == "cpu"
        if self._on_cpu:
            torch.set_num_threads(1)  # a batch gets what the front grants it
            onnx_graphs.set_pool_threads(options.pool_threads)
        self._forwarding = Turnstile()
        self._ready_brief: deque[Work] = deque()
        self._loader = TorchLoader(device, self._forwarding, options)
        self._formats = FormatLoader(device, alone=options.alone, limits=options.limits)
        self._models = LoadedModels()

    def serve(self) -> None:
        niceness = LOADING_NICENESS if self._on_cpu else 0
        failed = self._front.fail
        self._loading = WorkerThread("load", failed, niceness=niceness)
        self._unloading = WorkerThread("unload", failed, niceness=niceness)
        self._forward = WorkerThread("device", failed)
        self._generate = WorkerThread("generate", failed)
        for number in range(1, GENERATIONS):
            self._generate.join_in(f"generate {number}")
        # A thread keeps the count that it finds at its first use, which must not be that of a batch
        for thread in (self._loading, self._unloading):
            thread.put(torch.get_num_threads)
        self._host = HostThreads(torch.get_num_threads, failed)
        self._send(self._ready())
        for command in self._front.commands():
            self._accept(command)

    def _accept(self, command: Command) -> None:
        """Update the table of models on this thread, in the order of the commands, so that an unload applies
        to an earlier load and not to a later one."""
        match command:
            case Load():
                kept = self._models.expect(command.model_id)
                after(kept, self._loading.put, functools.partial(self._load, command))
            case Unload():
                found = self._models.remove(command.model_id)
                if found is not None:
                    after(
                        found, self._unloading.put, functools.partial(self._drop, command.model_id)
                    )
            case Demote():
                if not self._models.demote(command.model_id, self._begin_demotion):
                    self._send(Unloaded(command.model_id, 0))
            case Trim():
                self._unloading.put(functools.partial(self._trim, command.trim_id))
            case Run():
                deadline = time.monotonic() + command.timeout_s
                loaded = self._models.use(command.model_id)
                steps = self._prepare(command, deadline, loaded)
                lane = None if loaded is None else loaded.lane
                self._host.put(HostTask(lane, command.model_id, steps))

    def _ready(self) -> Ready:
        device = self._device
        total, free = device.total_nbytes(), device.free_nbytes()
        return Ready(os.getpid(), device.name, total, free, device.count())

    # ---- loading and unloading threads ----

    def _load(self, command: Load, kept: LoadedModel | None) -> None:
        """`kept`: the model, if it was demoted before."""
        at_work.cell[MODEL] = command.model_id
        began, held = time.monotonic(), anonymous_nbytes()
        try:
            loaded = self._promoted(kept) or self._opened(command)
        except BaseException as error:  # noqa: BLE001  a broken artifact must not end the process
            self._exit_if_sticky(error, command.model_id)
            refused = LoadFailed(command.model_id, request_errors.load_refusal(error))
            self._arrived(refused, None, None if kept is None or kept.unloaded else kept)
            return
        nbytes, seconds = loaded.handler.nbytes, time.monotonic() - began
        private = max(0, anonymous_nbytes() - held)
        report = Loaded(command.model_id, nbytes, seconds, private_nbytes=private)
        self._arrived(report, loaded, None)

    def _promoted(self, kept: LoadedModel | None) -> LoadedModel | None:
        """Promote a demoted model. None if the model must be loaded from its artifact."""
        if kept is None or self._loader.promote(kept.handler):
            return kept
        self._unload(kept)
        return None

    def _opened(self, command: Load) -> LoadedModel:
        handler = self._open(command)
        generates, lane = tasks.generates(command.task), getattr(handler, "lane", None)
        loaded = LoadedModel(command.model_id, handler, generates=generates, lane=lane)
        if self._warms_up and (request := warmup.request(handler)) is not None:
            self._warm_up(loaded, request)
        return loaded

    def _open(self, command: Load) -> Handler:
        user.become(command)
        if command.convention in formats.CONVENTIONS:
            return self._formats.load(Path(command.path), Convention(command.convention))
        return self._loader.load(command.path, command.task, command.dtype)

    def _warm_up(self, loaded: LoadedModel, request: InferenceRequest) -> None:
        """Run the request once. Unloads the model and raises InsufficientMemory if memory ran out.

        On a CPU this takes no turn: requests would wait until the weights are read. On a GPU it is a brief
        batch, because libraries keep state for each thread that computes.
        """
        try:
            if self._on_cpu:
                warmup.judge(warmup.answer(loaded.handler, request, self._device))
            else:
                warmup.judge(self._brief_warmup(loaded, request).result())
        except InsufficientMemory:
            self._unload(loaded)
            raise

    def _arrived(
        self, report: Loaded | LoadFailed, loaded: LoadedModel | None, left: LoadedModel | None
    ) -> None:
        if self._models.arrived(report.model_id, loaded, left):
            self._send(report)
        else:
            self._drop(report.model_id, loaded or left)

    def _drop(self, model_id: int, loaded: LoadedModel | None) -> None:
        self._send(Unloaded(model_id, 0 if loaded is None else self._unload(loaded)))

    def _unload(self, loaded: LoadedModel) -> int:
        """Returns the bytes that the model still holds: all of them, if it cannot be unloaded."""
        loaded.unloaded = True
        handler = loaded.handler
        owner = self._formats if isinstance(handler, ArrayHandler) else self._loader
        try:
            return owner.unload(handler)
        except BaseException as error:  # costs the model's memory, and not the process
            self._exit_if_sticky(error, loaded.model_id)
            log.exception("unload failed", extra={"model_id": loaded.model_id})
            return handler.nbytes

    def _begin_demotion(self, loaded: LoadedModel, kept: Kept) -> None:
        self._unloading.put(functools.partial(self._demote, loaded, kept))

    def _demote(self, loaded: LoadedModel, kept: Kept) -> None:
        at_work.cell[MODEL] = loaded.model_id
        stays = self._loader.demote(loaded.handler)
        leaked = 0 if stays else self._unload(loaded)
        kept.set_result(loaded if stays else None)
        self._send(Unloaded(loaded.model_id, leaked))

    def _trim(self, trim_id: int) -> None:
        """Runs on the unloading thread, after all earlier demotions: other threads may be busy for long."""
        try:
            self._device.empty_cache()
            free_nbytes = self._device.free_nbytes()
        except Exception as error:  # only the loss of the device is expected here
            self._exit_if_sticky(error, 0)
            raise
        self._send(Trimmed(trim_id, free_nbytes))

    # ---- host threads ----

    def _prepare(self, run: Run, deadline: float, loaded: LoadedModel | None) -> Iterator[None]:
        if loaded is None or loaded.unloaded:
            refusal = request_errors.load_refusal(ModelNotFound("the model is not on the device"))
            self._send(Done(run.batch_id, [refusal] * len(run.requests), 0.0, 0.0))
            return
        began = time.monotonic()
        slots = [forward.Slot(each) for each in run.requests]
        batch = forward.Batch(loaded.handler, slots, loaded.capacity)
        yield from forward.preparing(batch, deadline)
        took_s = time.monotonic() - began
        work = Work(run.batch_id, loaded, batch, deadline, took_s, self._finish, run.threads)
        if loaded.generates or forward.is_long(batch, self._device):
            self._generate.put(functools.partial(self._compute_long, work))
        elif run.threads == 1 and loaded.quick and self._forwarding.free:
            # Sooner than a device thread would begin: on a CPU, every thread may compute
            with self._forwarding.turn(WorkKind.BRIEF) as turn:
                self._compute(work, turn)
        else:
            self._put_brief(work)

    def _put_brief(self, work: Work) -> None:
        self._ready_brief.append(work)
        self._forward.put(self._compute_brief)

    def _brief_warmup(
        self, loaded: LoadedModel, request: InferenceRequest
    ) -> "Future[InferenceResponse | Refusal]":
        steps, answered = warmup.brief(loaded, request, self._put_brief)
        self._host.put(HostTask(loaded.lane, loaded.model_id, steps))
        return answered

    def _finish(self, work: Work) -> Iterator[None]:
        results = []
        for result in forward.finishing(work.batch, work.deadline):
            results.append(result)
            yield
        self._models.release(work.model)
        self._send(Done(work.batch_id, results, work.prepare_s, work.forward_s))

    # ---- device thread ----

    def _compute_brief(self) -> None:
        """Compute all ready batches in one turn: a thread that ended its turn after each batch would lose
        part of its fair share."""
        if not self._ready_brief:
            return
        with self._forwarding.turn(WorkKind.BRIEF) as turn:
            self._compute_next(turn)
            while self._ready_brief:
                self._forwarding.give_way()
                self._compute_next(turn)

    def _compute_next(self, turn: Turn) -> None:
        self._compute(self._ready_brief.popleft(), turn)

    def _compute_long(self, work: Work) -> None:
        turnstile.pass_through(self._forwarding)
        with self._forwarding.turn(WorkKind.LONG) as turn:
            self._compute(work, turn)

    def _compute(self, work: Work, turn: Turn) -> None:
        at_work.cell[MODEL] = work.model.model_id
        try:
            with forward.computing(work.threads):
                forward.forward(work.batch, self._device, work.deadline)
        except BaseException as error:  # forward raises only if the device is lost
            self._exit_if_sticky(error, work.model.model_id)
            raise
        work.forward_s = turn.lap()
        model = work.model
        model.quick = work.forward_s < QUICK_S
        self._host.put(HostTask(model.lane, model.model_id, work.done(work), finishes=True))

    def _exit_if_sticky(self, error: BaseException, model_id: int) -> None:
        """End the process if the error is sticky. `model_id`: the model whose work raised it; 0: none."""
        if is_sticky(error, self._device):
            log.critical("device lost", extra={"reason": str(error)})
            self._front.end_process(f"{UNUSABLE}: {request_errors.one_line(str(error))}", model_id)
