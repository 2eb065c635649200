"""Programs in separate processes, since they import PyTorch, which this process must not."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]


class ChildFailed(Exception):
    """The program failed; `str(error)` has the end of its stderr."""


def run(module: str, *arguments: object, timeout_s: float = 120.0) -> Any:
    """Run the program and parse its last line of output as JSON. Raises ChildFailed and TimeoutExpired."""
    return json.loads(output(f"gpu.{module}", *arguments, timeout_s=timeout_s).splitlines()[-1])


def output(module: str, *arguments: object, timeout_s: float) -> str:
    """`module` is one of `benchmarks`. Raises as `run` does."""
    command = [sys.executable, "-m", f"benchmarks.{module}", *map(str, arguments)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=timeout_s)
    if done.returncode != 0:
        raise ChildFailed(f"{module} ended with {done.returncode}: {done.stderr[-1500:]}")
    return done.stdout
