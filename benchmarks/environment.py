"""The machine and the software versions of a measurement; stored with every raw result."""

import json
import os
import platform
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

PACKAGES = ("torch", "transformers", "tokenizers", "safetensors", "uvicorn", "uvloop", "msgspec")


def describe() -> dict[str, Any]:
    return {
        "cpu": _field("/proc/cpuinfo", "model name"),
        "cores": os.cpu_count(),
        "memory": _field("/proc/meminfo", "MemTotal"),
        "kernel": platform.release(),
        "python": platform.python_version(),
        "packages": {name: version(name) for name in PACKAGES},
        "measured": time.strftime("%Y-%m-%d"),
        "load_average": os.getloadavg(),
    }


def write(directory: Path, scenario: str, result: dict[str, Any]) -> None:
    directory.mkdir(parents=True, exist_ok=True)
    for name, content in ((scenario, result), ("environment", describe())):
        text = json.dumps(content, indent=2) + "\n"
        (directory / f"{name}.json").write_text(text, encoding="utf-8")


def _field(path: str, name: str) -> str:
    for line in Path(path).read_text(encoding="utf-8").splitlines():
        if line.startswith(name):
            return line.partition(":")[2].strip()
    return "unknown"
