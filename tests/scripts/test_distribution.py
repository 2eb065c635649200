"""The wheel that pip builds from the repository has every module and the marker of typed packages."""

import subprocess
import sys
import zipfile
from pathlib import Path

from tests.scripts.runs import LIMIT_S, REPOSITORY
from tests.versions.declared import project

PACKAGES = ("container", "emulator", "model_handler")


def test_the_wheel_has_every_module_and_the_types(tmp_path: Path) -> None:
    source = copied(tmp_path / "source")
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation"]
    subprocess.run([*command, f"--wheel-dir={tmp_path}", str(source)], check=True, timeout=LIMIT_S)
    (wheel,) = tmp_path.glob("*.whl")
    assert wheel.name.split("-")[1] == project()["version"]
    stored = set(zipfile.ZipFile(wheel).namelist())
    wanted = {str(path.relative_to(source)) for path in modules(source)}
    assert {f"{package}/py.typed" for package in PACKAGES} <= wanted
    assert wanted == {name for name in stored if ".dist-info/" not in name}


def copied(to: Path) -> Path:
    """A copy of the files that a build reads, since it writes beside them."""
    for file in ("pyproject.toml", "setup.py", "README.md", "LICENSE"):
        to.mkdir(exist_ok=True)
        (to / file).write_bytes((REPOSITORY / file).read_bytes())
    for path in modules(REPOSITORY):
        copy = to / path.relative_to(REPOSITORY)
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.write_bytes(path.read_bytes())
    return to


def modules(root: Path) -> list[Path]:
    """All files of the packages except compiled ones."""
    return [
        path
        for package in PACKAGES
        for path in (root / package).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    ]
