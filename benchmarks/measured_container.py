"""One container process under measurement."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any, Self

import httpx
import psutil

START_LIMIT_S = 60.0


class MeasuredContainer:
    """`with MeasuredContainer(root)`: runs on a free loopback port and is ended with the block."""

    def __init__(self, root: Path, **environment: str) -> None:
        self._port = _free_port()
        self._settings = {
            "SAGEMAKER_MULTI_MODEL": "true",
            "SAGEMAKER_BIND_TO_PORT": str(self._port),
            "SAGEMAKER_CONTAINER_LOG_LEVEL": "ERROR",
            "MME_MODEL_ROOT": str(root),
        } | environment

    def __enter__(self) -> Self:
        command = [sys.executable, "-m", "container", "serve"]
        self._process = subprocess.Popen(command, env=os.environ | self._settings)
        transport = httpx.HTTPTransport(retries=10)  # with back-off: until the port is open
        base = f"http://127.0.0.1:{self._port}"
        self._client = httpx.Client(base_url=base, transport=transport, timeout=START_LIMIT_S)
        self._client.get("/ping").raise_for_status()
        return self

    def __exit__(self, *_: object) -> None:
        self._client.close()
        self._process.terminate()
        self._process.wait(timeout=30)

    def load(self, name: str, directory: Path) -> None:
        document = {"model_name": name, "url": str(directory)}
        self._client.post("/models", json=document).raise_for_status()

    def invoke(self, name: str, document: Any) -> Any:
        response = self._client.post(f"/models/{name}/invoke", content=json.dumps(document))
        return response.raise_for_status().json()

    def worker_anonymous_nbytes(self) -> int:
        """RssAnon of the worker: what is not backed by a file."""
        for process in psutil.Process(self._process.pid).children(recursive=True):
            if "worker" in process.name():
                return _status_nbytes(process.pid, "RssAnon")
        raise RuntimeError("no worker is running")


def _status_nbytes(pid: int, field: str) -> int:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith(f"{field}:"):
            return int(line.split()[1]) * 1024
    raise RuntimeError(f"/proc/{pid}/status has no {field}")


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
