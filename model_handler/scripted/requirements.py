"""What an artifact's code/requirements.txt asks for, installed once per content into a directory of its own.

Packages that the image has count as installed. With code/wheels/ beside it no index is asked, which an
endpoint with network isolation could not reach.
"""

import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from pathlib import Path

from model_handler.errors import ModelLoadFailed

LIMIT_S = 280.0  # the load's own limit is 300


def install(code: Path, store: Path) -> Path | None:
    """The directory to import from; None where nothing is asked for. Raises ModelLoadFailed."""
    requirements = code / "requirements.txt"
    if not requirements.is_file():
        return None
    store.mkdir(parents=True, exist_ok=True)
    directory = store / _key(requirements, code / "wheels")
    with (store / f"{directory.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # whoever comes second finds it done
        if not directory.exists():
            _fill(directory, requirements, code / "wheels")
    return _packages(directory)


def _key(requirements: Path, wheels: Path) -> str:
    digest = hashlib.sha256(sys.version.encode() + requirements.read_bytes())
    for wheel in sorted(wheels.glob("*")):
        digest.update(wheel.name.encode() + wheel.read_bytes())
    return digest.hexdigest()[:32]


def _fill(directory: Path, requirements: Path, wheels: Path) -> None:
    """Made elsewhere and moved here when it is whole."""
    with tempfile.TemporaryDirectory(dir=directory.parent) as scratch:
        made = Path(scratch) / "venv"
        _run([sys.executable, "-m", "venv", "--without-pip", str(made)])
        here = sysconfig.get_path("purelib")
        (_packages(made) / "image.pth").write_text(f"{here}\n", encoding="utf-8")
        source = ["--no-index", "--find-links", str(wheels)] if wheels.is_dir() else []
        pip = [sys.executable, "-m", "pip", "--python", str(made / "bin/python"), "install"]
        options = ["--quiet", "--no-input", "--disable-pip-version-check", "--no-compile"]
        _run([*pip, *options, *source, "-r", str(requirements)])
        (_packages(made) / "image.pth").unlink()
        shutil.move(made, directory)


def _packages(venv: Path) -> Path:
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    return venv / "lib" / version / "site-packages"


def _run(command: list[str]) -> None:
    try:
        subprocess.run(
            command,
            check=True,
            capture_output=True,
            text=True,
            timeout=LIMIT_S,
            env=os.environ | {"PYTHONDONTWRITEBYTECODE": "1"},
        )
    except subprocess.CalledProcessError as error:
        lines = [line for line in error.stderr.splitlines() if line.strip()]
        reason = lines[-1] if lines else f"exit status {error.returncode}"
        raise ModelLoadFailed(f"code/requirements.txt cannot be installed: {reason}") from error
    except subprocess.TimeoutExpired as error:
        raise ModelLoadFailed("code/requirements.txt took too long to install") from error
