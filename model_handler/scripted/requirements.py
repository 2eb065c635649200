"""Install an artifact's requirements.txt, once per content, into a separate directory.

Packages of the image count as installed. With a wheels/ directory beside the file, pip uses no index: an
endpoint with network isolation could not reach it.
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
LIMIT_S = 280.0  # below the load's time limit of 300 s


def find(script: Path, root: Path) -> Path | None:
    """The requirements.txt beside the script, in code/ or in the root, whichever exists first."""
    places = (script.parent, root / "code", root)
    return next((at for place in places if (at := place / "requirements.txt").is_file()), None)


def install(requirements: Path, store: Path) -> Path:
    """Install once and return the directory to import from. Raises ModelLoadFailed."""
    wheels = requirements.parent / "wheels"
    store.mkdir(parents=True, exist_ok=True)
    directory = store / _key(requirements, wheels)
    with (store / f"{directory.name}.lock").open("w") as lock:
        fcntl.flock(
            lock, fcntl.LOCK_EX
        )  # a concurrent process waits here and then finds the directory
        if not directory.exists():
            _fill(directory, requirements, wheels)
    _warn_of_imported(_packages(directory))
    return _packages(directory)


def _warn_of_imported(packages: Path) -> None:
    """Warn of packages without effect: a module that the process has already imported stays in use."""
    for found in importlib.metadata.distributions(path=[str(packages)]):
        if found.name.replace("-", "_").lower() in sys.modules:
            extra = {"package": found.name, "asked": found.version}
            log.warning("requirement without effect: already imported from the image", extra=extra)


def _key(requirements: Path, wheels: Path) -> str:
    digest = hashlib.sha256(sys.version.encode() + requirements.read_bytes())
    for wheel in sorted(wheels.glob("*")):
        digest.update(wheel.name.encode() + wheel.read_bytes())
    return digest.hexdigest()[:32]


def _fill(directory: Path, requirements: Path, wheels: Path) -> None:
    """Install into a temporary directory and move it to `directory` when it is complete."""
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
