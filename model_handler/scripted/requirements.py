"""What an artifact's requirements.txt asks for, installed once per content into a directory of its own.

Packages that the image has count as installed. With wheels/ beside it no index is asked, which an
endpoint with network isolation could not reach.
"""

import fcntl
import hashlib
import importlib.metadata
import logging
import os
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from pathlib import Path

from model_handler.errors import ModelLoadFailed

log = logging.getLogger(__name__)
LIMIT_S = 280.0  # the load's own limit is 300


def find(script: Path, root: Path) -> Path | None:
    """Beside the script, as both conventions have it, or where the other one does."""
    places = (script.parent, root / "code", root)
    return next((at for place in places if (at := place / "requirements.txt").is_file()), None)


def install(requirements: Path, store: Path) -> Path:
    """The directory to import from. Raises ModelLoadFailed."""
    wheels = requirements.parent / "wheels"
    store.mkdir(parents=True, exist_ok=True)
    directory = store / _key(requirements, wheels)
    with (store / f"{directory.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # whoever comes second finds it done
        if not directory.exists():
            _fill(directory, requirements, wheels)
    _warn_of_imported(_packages(directory))
    return _packages(directory)


def _warn_of_imported(packages: Path) -> None:
    """A process has one torch: what the image brought into it stays, whatever was installed."""
    for found in importlib.metadata.distributions(path=[str(packages)]):
        if found.name.replace("-", "_").lower() in sys.modules:
            extra = {"package": found.name, "asked": found.version}
            log.warning("requirement without effect: the image's is imported", extra=extra)


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
        raise ModelLoadFailed(f"requirements.txt cannot be installed: {reason}") from error
    except subprocess.TimeoutExpired as error:
        raise ModelLoadFailed("requirements.txt took too long to install") from error
