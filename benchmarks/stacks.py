"""The measured servers, each started by its own command in its own environment.

A server runs in a separate process session; all processes of the session are ended with its block.
"""

import contextlib
import dataclasses
import os
import random
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

import httpx
import psutil

from benchmarks.dialects import Dialect, HuggingFace, Triton
from benchmarks.scenarios import workers_side

ROOT = Path(__file__).parent.parent
PATIENCE_S = 180.0
PING_EVERY_S = 0.005
START_LIMIT_S = 120.0


@dataclass(frozen=True)
class Stack:
    """`directory`: in which the command runs; None: the current one."""

    name: str
    command: tuple[str, ...]
    settings: dict[str, str] = field(default_factory=dict)
    dialect: Dialect = field(default_factory=HuggingFace)
    directory: Path | None = None


OURS = Stack("ours", (sys.executable, "-m", "container", "serve"), {"MME_DEVICE": "cpu"})


def with_workers(count: int) -> Stack:
    """The container with so many worker processes."""
    settings = OURS.settings | {"MME_WORKERS": str(count)}
    return dataclasses.replace(OURS, name=workers_side(count), settings=settings)


_PEER = str(ROOT / ".venv-hf/bin/python")
_START = str(ROOT / "benchmarks/peers/start.py")
_OFFLINE = {"HF_HUB_OFFLINE": "1", "SAGEMAKER_MODEL_SERVER_WORKERS": "1"}
HUGGING_FACE = Stack("hugging-face", (_PEER, _START, "hugging-face"), _OFFLINE)
PIPELINES = Stack("mms-pipelines", (_PEER, _START, "pipelines"), _OFFLINE)
# PyTorch's default of one thread per core is many times slower when other programs run
TRITON = Stack(
    "triton",
    (str(ROOT / ".venv-triton/bin/python"), str(ROOT / "benchmarks/peers/triton_server/start.py")),
    {"HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"},
    Triton(),
)


@dataclass(frozen=True)
class MeasuredServer:
    name: str
    port: int
    leader: int
    ping_s: float
    client: httpx.Client
    dialect: Dialect
    scratch: Path

    # ---- the contract ----

    def load(self, model: str, directory: Path) -> float:
        """Seconds. Raises httpx.HTTPStatusError."""
        document = {"model_name": model, "url": self._place(model, directory)}
        began = time.perf_counter()
        self.client.post("/models", json=document).raise_for_status()
        return time.perf_counter() - began

    def unload(self, model: str) -> float:
        """Seconds."""
        began = time.perf_counter()
        self.client.delete(f"/models/{model}").raise_for_status()
        return time.perf_counter() - began

    def invoke(self, model: str, document: Any) -> Any:
        request = self.dialect.request(document)
        response = self.client.post(f"/models/{model}/invoke", json=request)
        return self.dialect.answer(response.raise_for_status().json())

    def _place(self, model: str, directory: Path) -> str:
        return str(self.dialect.place(model, directory, self.scratch))

    # ---- CPU time and memory ----

    def processes(self) -> list[psutil.Process]:
        return session(self.leader)

    def cpu_s(self) -> float:
        """CPU seconds of all live threads, to the nanosecond; psutil has a resolution of 10 ms."""
        return sum(cpu_s(process.pid) for process in self.processes())

    def pss_nbytes(self) -> int:
        """Proportional set size: memory shared by n processes counts 1/n for each."""
        return sum(_rollup(process.pid, "Pss") for process in self.processes())

    def memory_nbytes(self) -> dict[str, int]:
        """The proportional set size by kind of page: files (weights, libraries), anonymous, shared memory."""
        pids = [process.pid for process in self.processes()]
        kinds = {"all": "Pss", "file": "Pss_File", "anonymous": "Pss_Anon", "shared": "Pss_Shmem"}
        return {kind: sum(_rollup(pid, name) for pid in pids) for kind, name in kinds.items()}

    def anonymous_nbytes(self) -> int:
        return sum(_rollup(process.pid, "Anonymous") for process in self.processes())


@contextlib.contextmanager
def serving(
    stack: Stack, root: Path, *, output: IO[bytes] | int = subprocess.DEVNULL, **settings: str
) -> Iterator[MeasuredServer]:
    """`root`: directory of the models; `output`: file for the server's output."""
    port = free_port()
    contract = {"SAGEMAKER_MULTI_MODEL": "true", "SAGEMAKER_BIND_TO_PORT": str(port)}
    contract |= {"SAGEMAKER_SAFE_PORT_RANGE": "21000-25000"}
    ours = stack.command == OURS.command
    if ours:
        contract["MME_MODEL_ROOT"] = str(root.resolve())
    with tempfile.TemporaryDirectory(prefix="mme-bench-") as scratch:
        own = {} if ours else {"TMPDIR": scratch}
        environment = os.environ | contract | own | stack.settings | settings
        began = time.perf_counter()
        process = subprocess.Popen(
            stack.command,
            cwd=stack.directory,
            env=environment,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
        try:
            _await_ping(port, process)
            ping_s = time.perf_counter() - began
            base = f"http://127.0.0.1:{port}"
            with httpx.Client(base_url=base, timeout=PATIENCE_S) as client:
                yield MeasuredServer(
                    stack.name, port, process.pid, ping_s, client, stack.dialect, Path(scratch)
                )
        finally:
            _end(process)


def _await_ping(port: int, process: subprocess.Popen[bytes]) -> None:
    """Open a new connection every few milliseconds, since the time to the first response is measured."""
    limit = time.monotonic() + START_LIMIT_S
    while not _pings(port):
        if process.poll() is not None or time.monotonic() > limit:
            raise SystemExit("the server did not answer /ping")
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(PING_EVERY_S)


def _pings(port: int) -> bool:
    ask = b"GET /ping HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n"
    with (
        contextlib.suppress(OSError),
        socket.create_connection(("127.0.0.1", port), timeout=5) as connection,
    ):
        connection.sendall(ask)
        return connection.recv(64).startswith(b"HTTP/1.1 200")
    return False


def _end(process: subprocess.Popen[bytes]) -> None:
    for each in session(process.pid):
        with contextlib.suppress(psutil.Error):
            each.terminate()
    _, left = psutil.wait_procs(session(process.pid), timeout=10)
    for each in left:
        with contextlib.suppress(psutil.Error):
            each.kill()
    process.wait()


def session(leader: int) -> list[psutil.Process]:
    """All processes of the server's session, including those that are no longer its descendants."""
    found = set()
    with contextlib.suppress(psutil.Error):
        top = psutil.Process(leader)
        found = {top, *top.children(recursive=True)}
    for process in psutil.process_iter():
        with contextlib.suppress(ProcessLookupError, psutil.Error):
            if os.getsid(process.pid) == leader:
                found.add(process)
    return sorted(found, key=lambda process: process.pid)


def cpu_s(pid: int) -> float:
    total = 0
    for path in Path(f"/proc/{pid}/task").glob("*/schedstat"):
        with contextlib.suppress(OSError):
            total += int(path.read_text().split()[0])
    return total / 1e9


def machine_cpu_s() -> float:
    """CPU seconds of all processes since the start of the machine, to 10 ms; time stolen by others counts."""
    user, nice, system, _idle, _waiting, *rest = (
        Path("/proc/stat").read_text().splitlines()[0].split()[1:]
    )
    interrupts = rest[:3]  # hardware, software, stolen; guests are part of `user`
    return sum(map(int, (user, nice, system, *interrupts))) / os.sysconf("SC_CLK_TCK")


def _rollup(pid: int, field_name: str) -> int:
    """Bytes from the kernel's summary; 0 for a process that has just ended."""
    with contextlib.suppress(OSError):
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            if line.startswith(f"{field_name}:"):
                return int(line.split()[1]) * 1024
    return 0


def free_port() -> int:
    """A free port below 32767, because multi-model-server refuses higher ports."""
    for port in random.sample(range(26_000, 32_000), 100):
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port
    raise SystemExit("no port is free")
