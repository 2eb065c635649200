"""Plain PyTorch in batches, in a separate process: `benchmarks.peers.bare` on the measured device."""

import contextlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmarks.gpu.child import ROOT, ChildFailed


class PlainTorchProcess:
    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process

    def ready(self) -> None:
        """Wait until the model is loaded. Raises ChildFailed."""
        self._line()

    def measure(self, batch: int, seconds: float, texts: list[str]) -> dict[str, Any]:
        """Texts per second, and CPU seconds per text. Raises ChildFailed."""
        assert self._process.stdin is not None
        ask = {"batch": batch, "threads": os.cpu_count(), "seconds": seconds, "texts": texts}
        self._process.stdin.write(json.dumps(ask) + "\n")
        self._process.stdin.flush()
        found: dict[str, Any] = json.loads(self._line())
        return found

    def _line(self) -> str:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise ChildFailed(f"plain PyTorch ended with {self._process.wait()}")
        return line


@contextlib.contextmanager
def running(directory: Path, device: str) -> Iterator[PlainTorchProcess]:
    """Start the process, and wait until it has loaded the model."""
    command = [sys.executable, "-m", "benchmarks.peers.bare", str(directory), device]
    pipe = subprocess.PIPE
    process = subprocess.Popen(command, cwd=ROOT, stdin=pipe, stdout=pipe, text=True)
    try:
        bare = PlainTorchProcess(process)
        bare.ready()
        yield bare
    finally:
        process.kill()
        process.communicate()
