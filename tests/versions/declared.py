"""Reads what pyproject.toml declares.

python tests/versions/declared.py prints the dependencies of the container and the local platform as a
requirements file for pip. PyTorch is left out, because it would install CUDA's libraries, which
tests/versions/cpu_torch.py makes unnecessary.
"""

import re
import tomllib
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).parents[2]


def project() -> dict[str, Any]:
    """The table `[project]`."""
    return dict(tomllib.loads((REPOSITORY / "pyproject.toml").read_text("utf-8"))["project"])


def requirements(*extras: str) -> list[str]:
    """The dependencies of the container and of these extras."""
    optional = project()["optional-dependencies"]
    return [*project()["dependencies"], *(entry for extra in extras for entry in optional[extra])]


def pins(file: str) -> dict[str, str]:
    """Versions by name, spelled as in the constraints file."""
    lines = (REPOSITORY / file).read_text("utf-8").splitlines()
    return dict(line.split("==") for line in lines if line and not line.startswith("#"))


def name(requirement: str) -> str:
    found = re.match(r"[\w.-]+", requirement)
    assert found, requirement
    return found[0]


if __name__ == "__main__":
    every = requirements("formats", "emulator")
    print(*(each for each in every if name(each) != "torch"), sep="\n")
