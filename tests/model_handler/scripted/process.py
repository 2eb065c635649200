"""Test client of a real isolated process, forked by a real fork server, over its socket."""

import contextlib
import json
import os
import selectors
import socket
import subprocess
import sys
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from model_handler.artifacts.conventions import Convention, detect
from model_handler.framing import FrameBuffer, frame
from model_handler.messages import (
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
    decode_report,
)

PATIENCE_S = 60.0
JSON = "application/json"
Expected = TypeVar("Expected", bound=Report)


class ForkServer:
    """One fork server for all tests, so that its imports run once."""

    def __init__(self) -> None:
        self._control, theirs = socket.socketpair()
        with theirs:
            command = [sys.executable, "-m", "model_handler.processes.forkserver", "--control-fd"]
            self._server = subprocess.Popen(
                [*command, str(theirs.fileno())],
                pass_fds=[theirs.fileno()],
                env=os.environ | {"PYTHONUNBUFFERED": "1", "HF_HUB_OFFLINE": "1"},
                start_new_session=True,
            )

    def close(self) -> None:
        self._control.close()
        self._server.wait(PATIENCE_S)

    def _discard_reports(self) -> None:
        """The server would wait while the socket is full."""
        with contextlib.suppress(BlockingIOError):
            while self._control.recv(1 << 16, socket.MSG_DONTWAIT):
                pass

    @contextmanager
    def process(self, **order: Any) -> Iterator["Process"]:
        ours, theirs = socket.socketpair()
        reader, writer = os.pipe()
        order = {
            "fork": "isolate",
            "device": "cpu",
            "memory_nbytes": None,
            "requirements_dir": None,
            "alone": True,
        } | order
        line = json.dumps(order).encode() + b"\n"
        self._discard_reports()
        socket.send_fds(self._control, [line], [theirs.fileno(), writer])
        theirs.close()
        os.close(writer)
        with ours, os.fdopen(reader, "rb") as output:
            ours.settimeout(PATIENCE_S)
            process = Process(ours, output.fileno())
            process.pid = process.expect(Ready).pid
            yield process


@dataclass
class Process:
    """One isolated process. `printed`: its output, which the front process would log."""

    end: socket.socket
    output_fd: int
    pid: int = 0
    printed: bytes = b""
    _frames: FrameBuffer = field(default_factory=FrameBuffer)
    _reports: deque[Report] = field(default_factory=deque)
    _ids: int = 0

    def send(self, command: Load | Run | Unload) -> None:
        self.end.sendall(frame(command))

    def expect(self, kind: type[Expected]) -> Expected:
        """The next report, which must be of this type."""
        while not self._reports:
            if not self._listen():
                raise EOFError("the process closed its socket")
        report = self._reports.popleft()
        assert isinstance(report, kind), report
        return report

    def ended(self) -> bool:
        """Wait until the process closes its socket. True if it sent no further report."""
        while not self._reports and self._listen():
            pass
        return not self._reports

    def _listen(self) -> bool:
        """Wait for reports and read the output meanwhile: a full pipe would block the process.

        False when the socket is closed.
        """
        with selectors.DefaultSelector() as selector:
            selector.register(self.end, selectors.EVENT_READ)
            selector.register(self.output_fd, selectors.EVENT_READ)
            while True:
                ready = [key.fileobj for key, _ in selector.select(PATIENCE_S)]
                assert ready, "no report from the process"
                if self.output_fd in ready:
                    printed = os.read(self.output_fd, 1 << 16)
                    self.printed += printed
                    if not printed:
                        selector.unregister(self.output_fd)
                if self.end in ready:
                    break
        chunk = self.end.recv(1 << 20)
        self._reports.extend(map(decode_report, self._frames.feed(chunk)))
        return bool(chunk)

    def prints(self, text: bytes) -> None:
        """Wait until the process has printed this."""
        while text not in self.printed:
            printed = os.read(self.output_fd, 1 << 16)
            assert printed, f"{text!r} is not in {self.printed!r}"
            self.printed += printed

    # ---- commands of the front process ----

    def load(self, root: Path, **fields: Any) -> "Model":
        return self.begin_load(root, **fields)()

    def begin_load(self, root: Path, **fields: Any) -> Callable[[], "Model"]:
        """Send the load now; call the returned function to wait for it."""
        self._ask_for(root, **fields)

        def loaded() -> Model:
            report = self.expect(Loaded)
            return Model(self, report.model_id, report.nbytes)

        return loaded

    def refused_load(self, root: Path, **fields: Any) -> str:
        self._ask_for(root, **fields)
        reason = self.expect(LoadFailed).reason
        return f"{reason.error}: {reason.message}"

    def _ask_for(self, root: Path, **fields: Any) -> None:
        fields = {"task": "", "dtype": "float32", "convention": detect(root)} | fields
        self.send(Load(self.next_id(), str(root), **fields))

    def next_id(self) -> int:
        self._ids += 1
        return self._ids


@dataclass(frozen=True)
class Model:
    process: Process
    model_id: int
    nbytes: int

    def start(self, *requests: InferenceRequest) -> int:
        batch_id = self.process.next_id()
        self.process.send(Run(batch_id, self.model_id, list(requests), 60.0))
        return batch_id

    def run(self, *requests: InferenceRequest) -> list[InferenceResponse | Refusal]:
        batch_id = self.start(*requests)
        done = self.process.expect(Done)
        assert done.batch_id == batch_id
        return done.results

    def answer(self, document: Any = None, **fields: Any) -> InferenceResponse:
        (result,) = self.run(request(document, **fields))
        assert isinstance(result, InferenceResponse), result
        return result

    def ask(self, document: Any = None, **fields: Any) -> Any:
        return json.loads(self.answer(document, **fields).body)

    def refusal(self, document: Any = None, **fields: Any) -> Refusal:
        (result,) = self.run(request(document, **fields))
        assert isinstance(result, Refusal), result
        return result

    def unload(self) -> None:
        self.process.send(Unload(self.model_id))
        assert self.process.expect(Unloaded).model_id == self.model_id


def request(document: Any, **fields: Any) -> InferenceRequest:
    """A request with bytes unchanged, anything else as JSON."""
    body = document if isinstance(document, bytes) else json.dumps(document).encode()
    return InferenceRequest(body, **{"content_type": JSON, **fields})


def write(
    root: Path, code: str, convention: Convention = Convention.INFERENCE, **files: str
) -> Path:
    """Write an artifact with this code and further files beside it; `a__py` becomes a.py."""
    inference = convention is Convention.INFERENCE
    folder = root / "code" if inference else root
    folder.mkdir(parents=True)
    (folder / ("inference.py" if inference else "handler.py")).write_text(code)
    for name, text in files.items():
        (folder / name.replace("__", ".")).write_text(text)
    return root
