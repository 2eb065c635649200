"""The process that owns one device: loads models, runs their batches, one thread per kind of work.

Always true: everything it computes with came through its socket; when the socket ends, so does it.

    reader (main thread) ──► loading thread      one load after the other
                         ├─► unloading thread    never waits for another model's load
                         └─► host thread ──► device thread   ──► host thread
                             prepare n+1     forward n           finish n, send
                                        └──► generating threads
                                             forward n, giving way between tokens
"""

import functools
import gc
import logging
import os
import queue
import socket
import sys
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import NoReturn

from model_handler import device as devices
from model_handler import formats, precision, tasks, turnstile
from model_handler.ceilings import Ceilings
from model_handler.conventions import Convention
from model_handler.device import Device, is_sticky
from model_handler.errors import EngineError, ModelLoadFailed, ModelNotFound
from model_handler.formats import FormatLoader
from model_handler.forward import Batch, finish, forward, prepare
from model_handler.handlers import Handler
from model_handler.handlers.tensors import ArrayHandler
from model_handler.loader import TorchLoader
from model_handler.messages import (
    Done,
    FrameBuffer,
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
from model_handler.options import WorkerOptions
from model_handler.threads import Threads, first_work_s, tokenize_with, tokenizing
from model_handler.turnstile import GENERATIONS, Kind, Turn, Turnstile

log = logging.getLogger(__name__)
RECEIVE_NBYTES = 1 << 20
# How long a thread that prepares or finishes may keep the interpreter from the one that computes: the
# default of 5 ms is longer than many a forward
SWITCH_INTERVAL_S = 0.0005
Task = Callable[[], None]


def main(end: socket.socket, device_name: str, options: WorkerOptions | None = None) -> None:
    """Serve the socket until its end of file."""
    gc.enable()
    sys.setswitchinterval(SWITCH_INTERVAL_S)
    try:
        device = devices.parse(device_name)
    except ValueError as error:
        log.critical("no device", extra={"wanted": device_name, "reason": str(error)})
        end.sendall(frame(Poisoned(str(error))))
        return
    log.info("device", extra=devices.facts(device))
    options = options or WorkerOptions()
    precision.multiply(device.name, options.matmul_precision)
    tokenize_with(tokenizing(device.torch_device, len(os.sched_getaffinity(0))))
    Worker(end, device, options).serve()


@dataclass(slots=True)
class Experience:
    """With one model: how many rows fit, and how long its last batch would have taken one thread."""

    ceilings: Ceilings = field(default_factory=Ceilings)
    work_s: float = 0.0


@dataclass(slots=True)
class Work:
    """One batch on its way through the host and device threads."""

    batch_id: int
    batch: Batch
    deadline: float
    experience: Experience
    prepare_s: float
    forward_s: float = 0.0


class Lane(threading.Thread):
    """A thread that does one thing after the other, in the order asked; or several that share the tasks."""

    def __init__(self, name: str, tasks: "queue.SimpleQueue[Task] | None" = None) -> None:
        super().__init__(name=name, daemon=True)
        self._tasks = tasks or queue.SimpleQueue()
        self.start()

    def join_in(self, name: str) -> "Lane":
        """A further thread for the same tasks."""
        return Lane(name, self._tasks)

    def put(self, task: Task) -> None:
        self._tasks.put(task)

    def run(self) -> None:
        while True:
            task = self._tasks.get()
            try:
                task()
            except (
                BaseException
            ):  # a bug of ours: a worker with a dead thread would hang its callers
                log.exception("worker thread failed", extra={"thread": self.name})
                os._exit(1)
            del task  # it may hold the last batch's tensors


class Worker:
    def __init__(self, end: socket.socket, device: Device, options: WorkerOptions) -> None:
        self._end = end
        self._device = device
        self._forwarding = Turnstile()
        self._threads = Threads.of(device.torch_device)
        self._ready_brief: deque[Work] = deque()
        self._loader = TorchLoader(device, self._forwarding, options)
        self._formats = FormatLoader(device)
        self._handlers: dict[int, Handler] = {}
        self._experience: dict[int, Experience] = {}  # like the handlers
        self._generating: set[int] = set()  # models whose forward takes many steps
        self._loads = threading.Lock()  # guards the two sets
        self._pending: set[int] = set()  # loads accepted and not done
        self._withdrawn: set[int] = set()  # of those, the ones nobody wants any more
        self._sending = threading.Lock()

    def serve(self) -> None:
        self._loading, self._unloading = Lane("load"), Lane("unload")
        self._host, self._forward, self._generate = Lane("host"), Lane("device"), Lane("generate")
        for number in range(1, GENERATIONS):
            self._generate.join_in(f"generate {number}")
        self._send(self._ready())
        frames = FrameBuffer()
        while chunk := self._end.recv(RECEIVE_NBYTES):
            for payload in frames.feed(chunk):
                self._accept(decode_command(payload))

    def _accept(self, command: Load | Unload | Run) -> None:
        match command:
            case Load():
                with self._loads:
                    self._pending.add(command.model_id)
                self._loading.put(functools.partial(self._load, command))
            case Unload():
                self._accept_unload(command.model_id)
            case Run():
                deadline = time.monotonic() + command.timeout_s
                self._host.put(functools.partial(self._prepare, command, deadline))

    def _accept_unload(self, model_id: int) -> None:
        """Decided here, in the order the commands came: it means the load before it, not a later one."""
        with self._loads:
            if model_id in self._pending:
                self._withdrawn.add(model_id)
                return
            handler = self._handlers.pop(model_id, None)
            self._experience.pop(model_id, None)
        self._unloading.put(functools.partial(self._drop, model_id, handler))

    def _ready(self) -> Ready:
        device = self._device
        return Ready(os.getpid(), device.name, device.total_nbytes(), device.free_nbytes())

    def _send(self, report: Report) -> None:
        with self._sending:
            self._end.sendall(frame(report))

    # ---- loading and unloading threads ----

    def _load(self, command: Load) -> None:
        began = time.monotonic()
        try:
            handler = self._open(command)
        except Exception as error:  # a broken artifact must not end the others' process
            self._exit_if_sticky(error)
            self._loaded(command.model_id, None, LoadFailed(command.model_id, _refusal(error)))
            return
        seconds = time.monotonic() - began
        self._loaded(command.model_id, handler, Loaded(command.model_id, handler.nbytes, seconds))

    def _open(self, command: Load) -> Handler:
        if tasks.generates(command.task):
            self._generating.add(command.model_id)
        if command.convention in formats.CONVENTIONS:
            return self._formats.load(Path(command.path), Convention(command.convention))
        return self._loader.load(command.path, command.task, command.dtype)

    def _loaded(self, model_id: int, handler: Handler | None, report: Loaded | LoadFailed) -> None:
        with self._loads:
            self._pending.discard(model_id)
            withdrawn = model_id in self._withdrawn
            self._withdrawn.discard(model_id)
            if handler is not None and not withdrawn:
                self._handlers[model_id] = handler
                self._experience[model_id] = Experience(work_s=first_work_s(handler.nbytes))
        if withdrawn:
            self._drop(model_id, handler)
        else:
            self._send(report)

    def _drop(self, model_id: int, handler: Handler | None) -> None:
        owner = self._formats if isinstance(handler, ArrayHandler) else self._loader
        self._generating.discard(model_id)
        leaked = 0 if handler is None else owner.unload(handler)
        self._send(Unloaded(model_id, leaked))

    # ---- host thread ----

    def _prepare(self, run: Run, deadline: float) -> None:
        handler = self._handlers.get(run.model_id)
        if handler is None:
            refusal = _refusal(ModelNotFound("the model is not on the device"))
            self._send(Done(run.batch_id, [refusal] * len(run.requests), 0.0, 0.0))
            return
        began = time.monotonic()
        experience = self._experience.get(run.model_id) or Experience()  # unloaded meanwhile
        batch = prepare(handler, run.requests, experience.ceilings)
        took_s = time.monotonic() - began
        work = Work(run.batch_id, batch, deadline, experience, prepare_s=took_s)
        if run.model_id in self._generating:
            self._generate.put(functools.partial(self._compute_long, work))
        else:
            self._ready_brief.append(work)
            self._forward.put(self._compute_brief)

    def _finish(self, work: Work) -> None:
        self._send(Done(work.batch_id, finish(work.batch), work.prepare_s, work.forward_s))

    # ---- device thread ----

    def _compute_brief(self) -> None:
        """All that is ready in one stay: who left between two batches would lose the time it is owed."""
        if not self._ready_brief:
            return
        with self._forwarding.turn(Kind.BRIEF) as turn:
            self._compute_next(turn)
            while self._ready_brief:
                self._forwarding.give_way()
                self._compute_next(turn)

    def _compute_next(self, turn: Turn) -> None:
        work = self._ready_brief.popleft()
        with self._threads.computing(work.experience.work_s) as threads:
            self._compute(work, turn)
        work.experience.work_s = work.forward_s * threads

    def _compute_long(self, work: Work) -> None:
        turnstile.pass_through(self._forwarding)
        with self._forwarding.turn(Kind.LONG) as turn:
            self._compute(work, turn)

    def _compute(self, work: Work, turn: Turn) -> None:
        try:
            forward(work.batch, self._device, work.deadline)
        except Exception as error:  # forward raises only what loses the device
            self._exit_if_sticky(error)
            raise
        work.forward_s = turn.lap()
        self._host.put(functools.partial(self._finish, work))

    def _exit_if_sticky(self, error: BaseException) -> None:
        if is_sticky(error, self._device):
            self._poisoned(str(error))

    def _poisoned(self, reason: str) -> NoReturn:
        """No further call on this device can succeed in this process: let the front replace it."""
        log.critical("device lost", extra={"reason": reason})
        self._send(Poisoned(_first_line(reason)))
        os._exit(1)


def _refusal(error: Exception) -> Refusal:
    if not isinstance(error, EngineError):
        log.exception("load failed", exc_info=error)
        error = ModelLoadFailed(f"{type(error).__name__}: {_first_line(str(error))}")
    return Refusal(type(error).__name__, str(error))


def _first_line(text: str) -> str:
    return text.partition("\n")[0]
