"""A real worker process, whose batches this process sends and times."""

import contextlib
import os
import socket
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from model_handler.framing import FrameBuffer, frame
from model_handler.messages import (
    Command,
    Done,
    InferenceRequest,
    Load,
    Loaded,
    Ready,
    Report,
    Run,
    decode_report,
)

_START = """
import socket, sys
from model_handler.worker.worker import main
main(socket.socket(fileno=int(sys.argv[1])), "cpu")
"""
LIMIT_S = 300.0


class RealWorker:
    def __init__(self, end: socket.socket, process: subprocess.Popen[bytes]) -> None:
        self._end = end
        self._frames, self._reports = FrameBuffer(), list[Report]()
        self._pid = process.pid
        self._batches = 0
        assert isinstance(self._next(), Ready)

    def load(self, model_id: int, directory: Path) -> Loaded:
        self._send(Load(model_id, str(directory), "text-classification", "auto"))
        loaded = self._next()
        assert isinstance(loaded, Loaded), loaded
        return loaded

    def start(self, model_id: int, requests: Sequence[InferenceRequest], threads: int = 1) -> None:
        """Send a batch."""
        self._batches += 1
        self._send(Run(self._batches, model_id, list(requests), LIMIT_S, threads))

    def done(self) -> Done:
        """Wait for the results of the oldest batch."""
        done = self._next()
        assert isinstance(done, Done), done
        return done

    def thread_cpu_s(self) -> list[float]:
        """CPU seconds of every live thread, in the order of their start."""
        tasks = sorted(Path(f"/proc/{self._pid}/task").iterdir(), key=lambda task: int(task.name))
        return [int((task / "schedstat").read_text().split()[0]) / 1e9 for task in tasks]

    def _send(self, command: Command) -> None:
        self._end.sendall(frame(command))

    def _next(self) -> Report:
        while not self._reports:
            chunk = self._end.recv(1 << 20)
            assert chunk, "the worker ended"
            self._reports += map(decode_report, self._frames.feed(chunk))
        return self._reports.pop(0)


@contextlib.contextmanager
def running() -> Iterator[RealWorker]:
    ours, theirs = socket.socketpair()
    environment = os.environ | {"OMP_WAIT_POLICY": "PASSIVE", "HF_HUB_OFFLINE": "1"}
    with ours:
        with theirs:
            process = subprocess.Popen(
                [sys.executable, "-c", _START, str(theirs.fileno())],
                pass_fds=[theirs.fileno()],
                env=environment,
                stderr=subprocess.DEVNULL,
            )
        yield RealWorker(ours, process)
    process.wait()
