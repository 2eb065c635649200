"""The fork server: a process that has imported what models need, and forks workers in milliseconds.

Invariant: it runs no model, uses no device and has one thread, so that forking it is safe. When its
parent closes the control socket, it ends its workers and itself.

Protocol on the control socket, a stream of JSON lines: `{"fork": role, …}` with the worker's end of its
socket asks for one, where the role is "worker" (with a "device", and "options" as in
`options.WorkerOptions`, which may be missing; its second descriptor is that of its WorkRecord), "reader" for
a process that reads artifacts, or "isolate" for code from an artifact; the latter two get a second descriptor
for what they print. The role "server" is another fork server, with its own control socket and a "name": it
has all imports, and does not end with this one. `{"kill": pid}` ends a worker, and it has ended before the
next line is read; `{"ping": n}` is answered `{"pong": n}`. `{"serving": pid}` is the first line that a fork
server sends, with its own pid. `{"forked": pid}` comes back for each worker that was forked, and
`{"exited": pid, "status": n}` for each process that ended, once those that it started have ended too. Where a
fork fails, the worker's end of its socket is closed.
"""

import argparse
import ctypes
import gc
import importlib
import json
import logging
import os
import select
import signal
import socket
import sys
from contextlib import suppress
from typing import Any, NoReturn

import msgspec

from model_handler import logs
from model_handler.options import WorkerOptions
from model_handler.processes import process_table
from model_handler.sharing import work_record

PRELOAD = (
    "torch",
    "transformers.pipelines",
    "transformers.modeling_utils",
    "transformers.generation.utils",
    "transformers.models.auto.modeling_auto",
    "transformers.models.auto.tokenization_auto",
    "transformers.models.bert.modeling_bert",
    "transformers.models.distilbert.modeling_distilbert",
    "transformers.models.roberta.modeling_roberta",
    "transformers.models.bart.modeling_bart",
    "transformers.models.marian.modeling_marian",
    "transformers.models.t5.modeling_t5",
    "transformers.models.gpt2.modeling_gpt2",
    "model_handler.worker.worker",
    "model_handler.worker.artifact_reader",
    "model_handler.scripted.isolated_worker",
)
# Descriptors that come with the order
ROLES = {"worker": 2, "reader": 2, "isolate": 2, "server": 1}
PR_SET_PDEATHSIG, PR_SET_NAME = 1, 15  # linux/prctl.h
Order = dict[str, Any]
log = logging.getLogger(__name__)


def main() -> None:
    arguments = _arguments()
    logs.configure(arguments.log_level, sys.stderr)
    _name_process(arguments.name)
    for module in PRELOAD:
        importlib.import_module(module)
    gc.collect()
    gc.freeze()  # what was imported stays shared with the workers: no collector writes to it
    control = socket.socket(fileno=arguments.control_fd)
    try:
        while True:
            try:
                serve(control)
                break
            except _ForkedServer as forked:  # in the new process, with the old one's stack unwound
                control = forked.control
    except BaseException as error:  # the workers end with it, and another takes its place
        log.critical("fork server failed", exc_info=error)
        os._exit(1)
    os._exit(0)


class _ForkedServer(BaseException):
    """Raised in a process that has been forked to be another fork server."""

    def __init__(self, control: socket.socket) -> None:
        super().__init__()
        self.control = control


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m model_handler.processes.forkserver")
    parser.add_argument("--control-fd", type=int, required=True)
    parser.add_argument("--name", default="mme-forkserver", help="of the process, as ps shows it")
    parser.add_argument("--log-level", type=int, default=logging.INFO)
    return parser.parse_args()


def serve(control: socket.socket) -> None:
    """Fork on demand and report deaths until the control socket ends."""
    process_table.adopt_orphans()  # what a dead worker leaves behind becomes ours to end
    wakeup, signalled = _child_signals()
    _tell(control, {"serving": os.getpid()})
    workers: set[int] = set()
    orders = Orders(control)
    while True:
        readable, _, _ = select.select([control, wakeup], [], [])
        if wakeup in readable:
            wakeup.recv(4096)
            _reap(control, workers)
        if control in readable:
            for order, fds in orders.received():
                _obey(order, fds, [control, wakeup, signalled], workers)
            if orders.ended:
                break
    signal.set_wakeup_fd(-1)  # nobody reads the other end any more
    for pid in workers:
        _end(pid)
    _end_orphans(set())


class Orders:
    """Reads the orders of the front, with the descriptors that came with each."""

    def __init__(self, control: socket.socket) -> None:
        self.ended = False
        self._control = control
        self._rest = b""

    def received(self) -> list[tuple[Order, list[int]]]:
        """Those that are complete; the last one may be cut by the end of the buffer."""
        try:
            data, fds, _, _ = socket.recv_fds(self._control, 4096, 16)
        except ConnectionResetError:
            data, fds = b"", []
        self.ended = not data
        *lines, self._rest = (self._rest + data).split(b"\n")
        orders = []
        for order in map(json.loads, lines):
            count = ROLES[order["fork"]] if "fork" in order else 0
            orders.append((order, fds[:count]))
            del fds[:count]
        return orders


def _child_signals() -> tuple[socket.socket, socket.socket]:
    """A socket that becomes readable when a child ends, and its other end."""
    wakeup, signalled = socket.socketpair()
    signalled.setblocking(False)
    signal.set_wakeup_fd(signalled.fileno())
    signal.signal(signal.SIGCHLD, lambda *_: None)
    return wakeup, signalled


def _reap(control: socket.socket, workers: set[int]) -> None:
    for pid in list(workers):
        ended, status = os.waitpid(pid, os.WNOHANG)
        if ended:
            _bury(control, workers, pid, status)


def _obey(order: Order, fds: list[int], own: list[socket.socket], workers: set[int]) -> None:
    """Carry out one order. Workers close all of `own`, of which the first is the control socket."""
    control = own[0]
    if "ping" in order:
        _tell(control, {"pong": order["ping"]})
    elif "fork" in order:
        if pid := _fork(order, fds, own):
            workers.add(pid)
            if order["fork"] != "server":
                _tell(control, {"forked": pid})
    elif order["kill"] in workers:
        _bury(control, workers, order["kill"], _end(order["kill"]))


def _fork(order: Order, fds: list[int], parents_own: list[socket.socket]) -> int | None:
    """The new process. None where none can be had: the front sees that its socket is closed."""
    pid = None
    if (
        len(fds) == ROLES[order["fork"]]
    ):  # otherwise this process has too many files open to receive them
        try:
            pid = os.fork()
        except OSError as error:
            log.error("no process can be forked", extra={"reason": str(error)})
    if pid == 0:
        for end in parents_own:
            end.close()
        if order["fork"] == "server":
            _become_server(order, fds)
        _become_worker(order, fds)
    for fd in fds:
        os.close(fd)
    return pid


def _end(pid: int) -> int:
    """Kill a child, wait for its end, and return its status; 0 if it is no child any more."""
    try:
        os.kill(pid, signal.SIGKILL)
        return os.waitpid(pid, 0)[1]
    except (ProcessLookupError, ChildProcessError):
        return 0


def _bury(control: socket.socket, workers: set[int], pid: int, status: int) -> None:
    workers.discard(pid)
    _end_orphans(workers)
    _tell(control, {"exited": pid, "status": os.waitstatus_to_exitcode(status)})


def _end_orphans(workers: set[int]) -> None:
    """End what dead workers left behind: their descendants became children of this process."""
    while orphans := process_table.children() - workers:
        for pid in orphans:
            _end(pid)


def _become_server(order: Order, fds: list[int]) -> NoReturn:
    """In the child: leave the loop of the fork server that it is a copy of, and begin its own."""
    _name_process(order["name"])
    raise _ForkedServer(socket.socket(fileno=fds[0]))


def _become_worker(order: Order, fds: list[int]) -> NoReturn:
    """In the child: never returns into the fork server's loop."""
    signal.set_wakeup_fd(-1)  # from Python 3.12 on, asyncio has done so in every child
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    _prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    code = 1
    try:
        _run(order, fds)
        code = 0
    except ConnectionError:
        log.info("the front is gone")
    except BaseException:  # the last frame of a process: whatever it was, it must be in the log
        log.exception("worker ended")
    finally:
        with suppress(OSError, ValueError):  # an artifact's code may have closed them
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(code)


def _run(order: Order, fds: list[int]) -> None:
    end = socket.socket(fileno=fds[0])
    if order["fork"] == "worker":
        from model_handler.worker import user, worker

        _name_process("mme-worker")
        options = msgspec.convert(order.get("options", {}), WorkerOptions)
        if options.change_user:
            user.forbid_privileges()
        work_record.attach(fds[1])
        worker.main(end, order["device"], options)
    elif order["fork"] == "reader":
        from model_handler.worker import artifact_reader

        _name_process("mme-reader")
        artifact_reader.keep_log()
        _print_to(fds[1])
        artifact_reader.main(end)
    else:
        from model_handler.scripted import isolated_worker

        _name_process("mme-prefork")  # until it is given a model
        _print_to(fds[1])
        isolated_worker.main(end, order)


def _print_to(fd: int) -> None:
    """Send the process's output to the front, which adds the model's name and bounds it."""
    os.dup2(fd, sys.stdout.fileno())
    os.dup2(fd, sys.stderr.fileno())
    os.close(fd)
    process_table.adopt_orphans()


def _tell(control: socket.socket, report: dict[str, int]) -> None:
    try:
        control.sendall(json.dumps(report).encode() + b"\n")
    except OSError:
        log.debug("control socket closed")  # the loop sees the end of file next


def _name_process(name: str) -> None:
    """Set the name that `ps` and /proc/PID/comm show, at most 15 characters."""
    _prctl(PR_SET_NAME, ctypes.c_char_p(name.encode()))


def _prctl(option: int, argument: object) -> None:
    ctypes.CDLL(None, use_errno=True).prctl(option, argument, 0, 0, 0)


if __name__ == "__main__":
    main()
