"""The fork server: a process that has imported what models need, and forks workers in milliseconds.

Always true: it runs no model, touches no device and has one thread, so that its forks are sound.
Its parent's end of the control socket is its life line: on end of file it takes its workers along.

Protocol on the control socket, a stream of JSON lines: `{"fork": role}` with one file descriptor asks
for a worker on that descriptor; `{"kill": pid}` ends one, and it has ended before the next line is
read; `{"exited": pid, "status": n}` comes back for each that ended.
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
from typing import NoReturn

from model_handler import logs

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
    "model_handler.worker",
)
PR_SET_PDEATHSIG, PR_SET_NAME = 1, 15  # linux/prctl.h
log = logging.getLogger(__name__)


def main() -> None:
    arguments = _arguments()
    logs.configure(arguments.log_level, sys.stderr)
    _name_process("mme-forkserver")
    for module in PRELOAD:
        importlib.import_module(module)
    gc.collect()
    gc.freeze()  # what was imported stays shared with the workers: no collector writes to it
    serve(socket.socket(fileno=arguments.control_fd))


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m model_handler.forkserver")
    parser.add_argument("--control-fd", type=int, required=True)
    parser.add_argument("--log-level", type=int, default=logging.INFO)
    return parser.parse_args()


def serve(control: socket.socket) -> None:
    """Fork on demand and report deaths until the control socket ends."""
    wakeup = _child_signals()
    workers: set[int] = set()
    while True:
        readable, _, _ = select.select([control, wakeup], [], [])
        if wakeup in readable:
            wakeup.recv(4096)
            _reap(control, workers)
        if control in readable and not _obey(control, wakeup, workers):
            break
    signal.set_wakeup_fd(-1)  # nobody reads the other end any more
    for pid in workers:
        os.kill(pid, signal.SIGKILL)


def _child_signals() -> socket.socket:
    """A socket that becomes readable when a child ends."""
    wakeup, signalled = socket.socketpair()
    signalled.setblocking(False)
    signal.set_wakeup_fd(signalled.detach())
    signal.signal(signal.SIGCHLD, lambda *_: None)
    return wakeup


def _reap(control: socket.socket, workers: set[int]) -> None:
    for pid in list(workers):
        ended, status = os.waitpid(pid, os.WNOHANG)
        if ended:
            workers.discard(pid)
            _tell(control, {"exited": pid, "status": os.waitstatus_to_exitcode(status)})


def _obey(control: socket.socket, wakeup: socket.socket, workers: set[int]) -> bool:
    """Carry out the orders that arrived; False at the end of the control socket."""
    try:
        lines, fds, _, _ = socket.recv_fds(control, 4096, 16)
    except ConnectionResetError:
        return False
    for line in lines.splitlines():
        order = json.loads(line)
        if "fork" in order:
            workers.add(_fork(order, fds.pop(0), [control, wakeup]))
        elif order["kill"] in workers:
            _kill(control, workers, order["kill"])
    return bool(lines)


def _fork(order: dict[str, str], fd: int, parents_own: list[socket.socket]) -> int:
    pid = os.fork()
    if pid == 0:
        for end in parents_own:
            end.close()
        _become_worker(order, fd)
    os.close(fd)
    return pid


def _kill(control: socket.socket, workers: set[int], pid: int) -> None:
    os.kill(pid, signal.SIGKILL)
    _, status = os.waitpid(pid, 0)
    workers.discard(pid)
    _tell(control, {"exited": pid, "status": os.waitstatus_to_exitcode(status)})


def _become_worker(order: dict[str, str], fd: int) -> NoReturn:
    """In the child: never returns into the fork server's loop."""
    signal.set_wakeup_fd(-1)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    _prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    _name_process("mme-worker")
    code = 1
    try:
        from model_handler import worker

        worker.main(socket.socket(fileno=fd), order["fork"])
        code = 0
    except ConnectionError:
        log.info("the front is gone")
    except BaseException:  # the last frame of a process: whatever it was, it must be in the log
        log.exception("worker ended")
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def _tell(control: socket.socket, report: dict[str, int]) -> None:
    try:
        control.sendall(json.dumps(report).encode() + b"\n")
    except OSError:
        log.debug("nobody listens any more")  # the loop sees the end of file next


def _name_process(name: str) -> None:
    """What `ps` and /proc/PID/comm show."""
    _prctl(PR_SET_NAME, ctypes.c_char_p(name.encode()))


def _prctl(option: int, argument: object) -> None:
    ctypes.CDLL(None, use_errno=True).prctl(option, argument, 0, 0, 0)


if __name__ == "__main__":
    main()
