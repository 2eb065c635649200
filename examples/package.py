"""python -m examples.package DIR [--only NAME]

Packs the models of knn, home_values and digits into DIR/<name>.tar.gz for a multi-model endpoint, with
the files at the root of the archive. Equal files give archives with equal bytes.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from .five_models.package import pack

EXAMPLES = Path(__file__).parent
FOLDERS = ("knn", "home_values", "digits")


def artifacts() -> dict[str, Path]:
    """The directory of each model, by the model's name."""
    found = (each for folder in FOLDERS for each in (EXAMPLES / folder / "artifacts").iterdir())
    return {directory.name: directory for directory in sorted(found)}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("output", type=Path, metavar="DIR", help="folder for the archives")
    parser.add_argument("--only", choices=list(artifacts()), help="pack this model only")
    options = parser.parse_args()
    options.output.mkdir(parents=True, exist_ok=True)
    for name, directory in artifacts().items():
        if options.only in (None, name):
            archive = options.output / f"{name}.tar.gz"
            pack(directory, archive)
            print(f"{archive} {archive.stat().st_size:,} bytes")


if __name__ == "__main__":
    main()
