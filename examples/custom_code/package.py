"""python -m examples.custom_code.package DIR

Packs the examples moons, stars and redact into DIR/<name>.tar.gz for a multi-model endpoint. `stars`
contains the sentiment model of five_models and a handler.py.
"""

import shutil
import sys
import tempfile
from pathlib import Path

from examples.five_models.package import ARTIFACTS, pack

FOLDER = Path(__file__).parent
NAMES = ("moons", "redact", "stars")


def package(name: str, archive: Path) -> None:
    with tempfile.TemporaryDirectory() as scratch:
        directory = Path(scratch) / name
        leave = shutil.ignore_patterns("train.py", "__pycache__")
        shutil.copytree(FOLDER / name, directory, ignore=leave)
        if name == "stars":
            shutil.copytree(ARTIFACTS / "sentiment", directory, dirs_exist_ok=True)
        pack(directory, archive)


def main() -> None:
    output = Path(sys.argv[1])
    output.mkdir(parents=True, exist_ok=True)
    for name in NAMES:
        package(name, output / f"{name}.tar.gz")
        print(output / f"{name}.tar.gz")


if __name__ == "__main__":
    main()
