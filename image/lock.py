"""python image/lock.py: writes the locks, which name the packages of the image by version and hash.

requirements.lock is what pip chooses on Linux with Python 3.11 for the runtime and the extra `formats`,
within constraints.txt. PyTorch and the CUDA libraries that it asks for are left out: the Dockerfile adds them
by flavor. multi-model-server.lock is what the extra of that name adds.
"""

import json
import subprocess
import sys
from pathlib import Path

REPOSITORY = Path(__file__).parents[1]
LOCK = Path(__file__).with_name("requirements.lock")
FRONT_LOCK = Path(__file__).with_name("multi-model-server.lock")
FLAVORED = ("torch", "nvidia-", "cuda-", "triton")


def main() -> None:
    runtime = _lines("formats")
    _write(LOCK, runtime)
    _write(FRONT_LOCK, _lines("formats,multi-model-server") - runtime)


def _lines(extras: str) -> set[str]:
    command = [sys.executable, "-m", "pip", "install", "--dry-run", "--ignore-installed", "--quiet"]
    options = ["--report", "-", "--constraint", str(REPOSITORY / "constraints.txt")]
    wanted = [f"{REPOSITORY}[{extras}]", "setuptools", "wheel"]  # the last two build the package
    done = subprocess.run([*command, *options, *wanted], check=True, capture_output=True, text=True)
    return {line for each in json.loads(done.stdout)["install"] if (line := _line(each))}


def _write(lock: Path, lines: set[str]) -> None:
    head = "# Written by image/lock.py for Linux on x86-64 with Python 3.11.\n"
    lock.write_text(head + "\n".join(sorted(lines)) + "\n", encoding="utf-8")


def _line(entry: dict[str, object]) -> str | None:
    document: dict[str, dict[str, object]] = json.loads(json.dumps(entry))
    name, version = str(document["metadata"]["name"]), document["metadata"]["version"]
    archive = document["download_info"].get("archive_info")
    if name.lower().startswith(FLAVORED) or not isinstance(archive, dict):
        return None  # the second: this project itself
    return f"{name}=={version} --hash=sha256:{archive['hashes']['sha256']}"


if __name__ == "__main__":
    main()
