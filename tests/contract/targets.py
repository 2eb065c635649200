"""The servers that the suite can test. A new target is one function here and one entry in `TARGETS`."""

import contextlib
import logging
import os
import random
import re
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Container, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol
from urllib.parse import urlsplit

import psutil
import pytest

from tests.contract.artifacts import Zoo
from tests.contract.client import Client
from tests.contract.waiting import until

REPOSITORY = Path(__file__).parents[2]
RESERVED = 'mme_memory_reserved_bytes{tier="device"}'
LOGGERS = ("container", "model_handler")
RUNNING, WAITING = "mme_batches_running", "mme_requests_waiting"
START_LIMIT_S = 30.0
STOP_LIMIT_S = 35.0


class Target(Protocol):
    """A running server. The `environment` of its launch is added to that of a multi-model server."""

    @property
    def base_url(self) -> str: ...

    @property
    def pid(self) -> int | None:
        """The server's process id, if it has a separate process."""
        ...

    def url(self, directory: Path) -> str:
        """The artifact's directory as the server sees it."""
        ...

    def logs(self) -> str: ...

    def stop(self) -> None:
        """End the server and all processes that it started; idempotent."""
        ...


Launch = Callable[[Mapping[str, str | None], Path, Path], Target]


def address(target: Target) -> tuple[str, int]:
    parts = urlsplit(target.base_url)
    assert parts.hostname is not None
    assert parts.port is not None
    return parts.hostname, parts.port


def free_port() -> int:
    """A free port below the ranges of the platform, of outgoing connections, and of ports that
    multi-model-server refuses."""
    for port in random.sample(range(16_000, 26_000), 100):
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port
    pytest.fail("no port is free")


# ---- memory, as reported by the server and by the kernel ----


@dataclass(frozen=True, slots=True)
class Memory:
    """`resident`: RSS of the process and all its descendants; 0 if they cannot be inspected."""

    reserved: int
    resident: int


def memory(target: Target, client: Client) -> Memory:
    resident = 0
    for process in processes(target):
        with contextlib.suppress(psutil.NoSuchProcess):
            resident += process.memory_info().rss
    return Memory(int(client.gauges()[RESERVED]), resident)


def processes(target: Target) -> list[psutil.Process]:
    """The server's process and all its descendants."""
    if target.pid is None:
        return []
    server = psutil.Process(target.pid)
    return [server, *server.children(recursive=True)]


def worker(target: Target, zoo: Zoo) -> psutil.Process:
    """The first worker process."""
    return workers(target, zoo)[0]


def workers(target: Target, zoo: Zoo) -> list[psutil.Process]:
    """Waits for the first one, since it starts later than the server."""
    return until(lambda: _named(target, zoo.process), within_s=60.0)


def kill_workers(target: Target, zoo: Zoo) -> None:
    """All of them, since any may be the one that computes."""
    for each in workers(target, zoo):
        each.kill()


def newcomer(target: Target, zoo: Zoo, known: Container[int]) -> psutil.Process:
    """Wait for a worker process that is not in the earlier ones."""

    def found() -> list[psutil.Process]:
        return [each for each in _named(target, zoo.process) if each.pid not in known]

    return until(found)[0]


def _named(target: Target, name: str) -> list[psutil.Process]:
    found = []
    for process in processes(target):
        with contextlib.suppress(psutil.NoSuchProcess):
            if process.name() == name and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
    return found


# ---- a separate process ----


class ServerProcess:
    """A server process with its output in a file. `settings`: its environment variables."""

    def __init__(
        self,
        command: Sequence[str],
        settings: Mapping[str, str],
        scratch: Path,
        environ: Mapping[str, str],
    ) -> None:
        self._port = int(settings.get("SAGEMAKER_BIND_TO_PORT", "8080"))
        self._log = scratch / f"server-{self._port}.log"
        with self._log.open("wb") as log:
            self.popen = subprocess.Popen(
                command,
                cwd=REPOSITORY,
                env=environ,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    @property
    def base_url(self) -> str:
        return f"http://127.0.0.1:{self._port}"

    @property
    def pid(self) -> int | None:
        return self.popen.pid

    def url(self, directory: Path) -> str:
        return str(directory)

    def logs(self) -> str:
        return self._log.read_text(errors="replace")

    def stop(self) -> None:
        family = processes(self) if self.popen.poll() is None else []
        self.popen.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.popen.wait(STOP_LIMIT_S)
        for process in family:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        self.popen.wait()


def settings_of(changes: Mapping[str, str | None], root: Path, scratch: Path) -> dict[str, str]:
    """The environment without variables of this project. `None` removes a variable."""
    wanted: dict[str, str | None] = {
        "PATH": os.environ["PATH"],
        "HOME": str(scratch),
        "PYTHONDONTWRITEBYTECODE": "1",
        "SAGEMAKER_MULTI_MODEL": "true",
        "SAGEMAKER_BIND_TO_PORT": str(free_port()),
        "MME_MODEL_ROOT": str(root),
        "MME_DEVICE": "cpu",
        **changes,
    }
    return {name: value for name, value in wanted.items() if value is not None}


def launch_process(
    environment: Mapping[str, str | None],
    root: Path,
    scratch: Path,
    prefix: Sequence[str] = (),
) -> ServerProcess:
    settings = settings_of(environment, root, scratch)
    command = [*prefix, sys.executable, "-m", "container", "serve"]
    return ServerProcess(command, settings, scratch, settings)


# ---- the same application inside the test process ----


class ServerThread:
    """The ASGI application under uvicorn in a thread, for coverage and debuggers."""

    def __init__(self, environment: Mapping[str, str | None], root: Path, scratch: Path) -> None:
        from container.entrypoint import create_server
        from container.settings import Settings
        from model_handler.engine.factory import create_engine
        from model_handler.logs import JsonFormatter

        settings = Settings.from_environ(settings_of(environment, root, scratch))
        self._port = settings.port
        self._log = scratch / "server.log"
        self._handler = logging.FileHandler(self._log)
        self._handler.setFormatter(JsonFormatter())
        for name in LOGGERS:
            logging.getLogger(name).addHandler(self._handler)
            logging.getLogger(name).setLevel(logging.INFO)
        self._server = create_server(settings, create_engine(settings.engine))
        self._thread = threading.Thread(target=self._server.run, name="server")
        self._thread.start()

    @property
    def base_url(self) -> str:
        return f"http://127.0.0.1:{self._port}"

    @property
    def pid(self) -> int | None:
        return None

    def url(self, directory: Path) -> str:
        return str(directory)

    def logs(self) -> str:
        return self._log.read_text(errors="replace")

    def stop(self) -> None:
        self._server.should_exit = True
        self._thread.join(STOP_LIMIT_S)
        for name in LOGGERS:
            logging.getLogger(name).removeHandler(self._handler)
        self._handler.close()


def launch_multi_model_server(
    environment: Mapping[str, str | None], root: Path, scratch: Path
) -> ServerProcess:
    """The same handlers behind multi-model-server."""
    front = {"MME_FRONT": "multi-model-server"}
    return launch_process({**front, **environment}, root, scratch)


TARGETS: dict[str, Launch] = {
    "process": launch_process,
    "app": ServerThread,
    "mms": launch_multi_model_server,
}


def answering(target: Target) -> None:
    """Wait for the first response of a new server."""

    def answers() -> bool:
        if isinstance(target, ServerProcess) and target.popen.poll() is not None:
            pytest.fail(f"the server ended with {target.popen.returncode}:\n{target.logs()}")
        with contextlib.suppress(OSError), socket.create_connection(address(target), timeout=1):
            return True
        return False

    until(answers, within_s=START_LIMIT_S)


def terminate(target: ServerProcess) -> None:
    target.popen.send_signal(signal.SIGTERM)


def log_lines(target: Target, pattern: str) -> list[str]:
    return [line for line in target.logs().splitlines() if re.search(pattern, line)]
