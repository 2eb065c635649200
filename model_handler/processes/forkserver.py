"""The fork server: a process that has imported what models need, and forks workers in milliseconds.

Invariant: it runs no model, uses no device and has one thread, so that forking it is safe. When its
parent closes the control socket, it ends its workers and itself.

Protocol on the control socket, a stream of JSON lines: `{"fork": role, …}` with the worker's end of its
socket asks for one, where the role is "worker" (with a "device", and "options" as in
`options.WorkerOptions`, which may be missing), or "isolate" for code from an artifact, which gets a
second descriptor for what it prints; `{"kill": pid}` ends a worker, and it has ended before the next
line is read; `{"exited": pid, "status": n}` comes back for each that ended, once the processes that it
started have ended too.
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
from pathlib import Path
from typing import Any, NoReturn

import msgspec

from model_handler import logs
from model_handler.options import WorkerOptions

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
    "model_handler.scripted.isolated_worker",
)
ROLES = {"worker": 1, "isolate": 2}  # descriptors that come with the order
PR_SET_PDEATHSIG, PR_SET_NAME, PR_SET_CHILD_SUBREAPER = 1, 15, 36  # linux/prctl.h
Order = dict[str, Any]
log = logging.getLogger(__name__)


def main() -> None:
    arguments = _arguments()
    logs.configure(arguments.log_level, sys.stderr)
    _name_process("mme-forkserver")
    _prctl(PR_SET_CHILD_SUBREAPER, 1)  # what a dead worker leaves behind becomes ours to end
    for module in PRELOAD:
        importlib.import_module(module)
    gc.collect()
    gc.freeze()  # what was imported stays shared with the workers: no collector writes to it
    serve(socket.socket(fileno=arguments.control_fd))


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m model_handler.processes.forkserver")
    parser.add_argument("--control-fd", type=int, required=True)
    parser.add_argument("--log-level", type=int, default=logging.INFO)
    return parser.parse_args()


def serve(control: socket.socket) -> None:
    """Fork on demand and report deaths until the control socket ends."""
    wakeup, signalled = _child_signals()
    workers: set[int] = set()
    while True:
        readable, _, _ = select.select([control, wakeup], [], [])
        if wakeup in readable:
            wakeup.recv(4096)
            _reap(control, workers)
        if control in readable and not _obey([control, wakeup, signalled], workers):
            break
    signal.set_wakeup_fd(-1)  # nobody reads the other end any more
    for pid in workers:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
    _end_orphans(set())


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


def _obey(own: list[socket.socket], workers: set[int]) -> bool:
    """Carry out the orders on the first socket; False at end of file. Workers close all of `own`."""
    control = own[0]
    try:
        lines, fds, _, _ = socket.recv_fds(control, 4096, 16)
    except ConnectionResetError:
        return False
    for line in lines.splitlines():
        order = json.loads(line)
        if "fork" in order:
            theirs = [fds.pop(0) for _ in range(ROLES[order["fork"]])]
            workers.add(_fork(order, theirs, own))
        elif order["kill"] in workers:
            _kill(control, workers, order["kill"])
    return bool(lines)


def _fork(order: Order, fds: list[int], parents_own: list[socket.socket]) -> int:
    pid = os.fork()
    if pid == 0:
        for end in parents_own:
            end.close()
        _become_worker(order, fds)
    for fd in fds:
        os.close(fd)
    return pid


def _kill(control: socket.socket, workers: set[int], pid: int) -> None:
    os.kill(pid, signal.SIGKILL)
    _, status = os.waitpid(pid, 0)
    _bury(control, workers, pid, status)


def _bury(control: socket.socket, workers: set[int], pid: int, status: int) -> None:
    workers.discard(pid)
    _end_orphans(workers)
    _tell(control, {"exited": pid, "status": os.waitstatus_to_exitcode(status)})


def _end_orphans(workers: set[int]) -> None:
    """End what dead workers left behind: their descendants became children of this process."""
    while orphans := _children() - workers:
        for pid in orphans:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)


def _children() -> set[int]:
    pids = (int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdecimal())
    return {pid for pid in pids if _parent(pid) == os.getpid()}


def _parent(pid: int) -> int | None:
    try:
        stat = Path(f"/proc/{pid}/stat").read_bytes()
    except OSError:
        return None  # it has ended meanwhile
    return int(stat.rpartition(b")")[2].split()[1])  # proc(5): the name may hold anything


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
        from model_handler.worker import worker

        _name_process("mme-worker")
        options = msgspec.convert(order.get("options", {}), WorkerOptions)
        worker.main(end, order["device"], options)
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
    _prctl(PR_SET_CHILD_SUBREAPER, 1)


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
