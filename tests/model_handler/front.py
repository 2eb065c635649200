"""A test client of a worker that runs in a thread of the test process."""

import json
import socket
import threading
from pathlib import Path

from model_handler.device.device import Device
from model_handler.framing import FrameBuffer, FrontConnection, frame
from model_handler.messages import (
    Command,
    Done,
    InferenceRequest,
    InferenceResponse,
    Load,
    Ready,
    Refusal,
    Report,
    Run,
    decode_report,
)
from model_handler.options import WorkerOptions
from model_handler.worker.worker import Worker

ID = 3
TEXT = json.dumps({"inputs": "the film was a wonderful surprise"}).encode()


class Front:
    def __init__(self, device: Device, options: WorkerOptions | None = None) -> None:
        self._end, self._theirs = socket.socketpair()
        self._end.settimeout(60)
        self._frames, self._reports = FrameBuffer(), list[Report]()
        connection = FrontConnection(self._theirs)
        worker = Worker(connection, device, options or WorkerOptions())
        self._thread = threading.Thread(target=worker.serve, daemon=True)
        self._thread.start()
        assert isinstance(self.next(), Ready)

    def send(self, *commands: Command) -> None:
        self._end.sendall(b"".join(map(frame, commands)))

    def next(self) -> Report:
        while not self._reports:
            chunk = self._end.recv(1 << 20)
            assert chunk, "the worker is gone"
            self._reports += map(decode_report, self._frames.feed(chunk))
        return self._reports.pop(0)

    def ask(self, command: Command) -> Report:
        self.send(command)
        return self.next()

    def load(self, path: Path, model_id: int = ID, task: str = "text-classification") -> Report:
        return self.ask(Load(model_id, str(path), task, "auto"))

    def answer(self, model_id: int = ID) -> InferenceResponse | Refusal:
        done = self.ask(Run(1, model_id, [InferenceRequest(TEXT, "application/json")], 60))
        assert isinstance(done, Done)
        (result,) = done.results
        return result

    def close(self) -> None:
        self._end.close()
        self._thread.join(60)
        assert not self._thread.is_alive()
        self._theirs.close()
