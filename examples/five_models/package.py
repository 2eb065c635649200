"""python examples/five_models/package.py DIR [--only NAME] [--artifacts DIR] [--hub]

Packs the five models into DIR/<name>.tar.gz for a multi-model endpoint, with the files at the root of
the archive. Equal files give archives with equal bytes. With --hub, full-size models are downloaded from
the Hugging Face hub and packed instead (about 3 GB; needs the package huggingface_hub).
"""

from __future__ import annotations

import argparse
import fnmatch
import gzip
import shutil
import sys
import tarfile
import tempfile
from collections.abc import Iterable
from pathlib import Path

ARTIFACTS = Path(__file__).parent / "artifacts"
ORIGINALS = {
    "sentiment": "distilbert/distilbert-base-uncased-finetuned-sst-2-english",
    "translation_en_de": "Helsinki-NLP/opus-mt-en-de",
    "summarization": "facebook/bart-large-cnn",
    "ner": "dslim/bert-base-NER",
    "news_topics": "textattack/bert-base-uncased-ag-news",
}
CONFIGURATION = ["*.json", "*.txt", "*.model", "*.spm"]
SAFETENSORS, PYTORCH = "*.safetensors", "pytorch_model*.bin"


def pack(directory: Path, archive: Path) -> None:
    """Write `archive` from the files below `directory`, with fixed owner, time and order."""
    files = sorted(path for path in directory.rglob("*") if path.is_file())
    # Level 1, because weights hardly compress. No name and time 0, for equal bytes.
    with (
        archive.open("wb") as raw,
        gzip.GzipFile("", "wb", compresslevel=1, fileobj=raw, mtime=0) as stream,
        tarfile.open(fileobj=stream, mode="w", format=tarfile.PAX_FORMAT) as tar,
    ):
        for path in files:
            _add(tar, path, path.relative_to(directory).as_posix())


def _add(tar: tarfile.TarFile, path: Path, name: str) -> None:
    member = tarfile.TarInfo(name)
    member.size, member.mode = path.stat().st_size, 0o644
    with path.open("rb") as content:
        tar.addfile(member, content)


def download(repository: str, directory: Path) -> None:
    """Download the files that loading needs. Raises HubUnreachableError."""
    try:
        from huggingface_hub import HfApi, snapshot_download
    except ImportError as error:
        raise HubUnreachableError("--hub needs: pip install huggingface_hub") from error
    try:
        # Fails at once without a hub, unlike listing or downloading.
        files = HfApi().model_info(repository).siblings or []
        names = [file.rfilename for file in files]
        snapshot_download(repository, local_dir=directory, allow_patterns=needed(names))
        shutil.rmtree(directory / ".cache", ignore_errors=True)  # log messages of the hub client
    # Libraries and network raise many kinds of errors, which all mean that the hub is unreachable.
    except Exception as error:
        reason = str(error).strip().partition("\n")[0] or type(error).__name__
        raise HubUnreachableError(f"cannot download {repository}: {reason}") from error


def needed(names: Iterable[str]) -> list[str]:
    """The files of a repository that loading needs. Its folders contain the model in other formats."""
    root = [name for name in names if "/" not in name]
    weights = fnmatch.filter(root, SAFETENSORS) or fnmatch.filter(root, PYTORCH)
    return weights + [name for pattern in CONFIGURATION for name in fnmatch.filter(root, pattern)]


class HubUnreachableError(Exception):
    """The message is one line for the user."""


def main() -> None:
    options = _arguments()
    options.output.mkdir(parents=True, exist_ok=True)
    for name in [options.only] if options.only else ORIGINALS:
        archive = options.output / f"{name}.tar.gz"
        if options.hub:
            _pack_original(ORIGINALS[name], archive)
        else:
            pack(options.artifacts / name, archive)
        print(f"{archive} {archive.stat().st_size:,} bytes")


def _pack_original(repository: str, archive: Path) -> None:
    with tempfile.TemporaryDirectory() as folder:
        try:
            download(repository, Path(folder))
        except HubUnreachableError as error:
            sys.exit(f"package.py: {error}")
        pack(Path(folder), archive)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("output", type=Path, metavar="DIR", help="folder for the archives")
    parser.add_argument("--only", choices=list(ORIGINALS), help="pack this model only")
    parser.add_argument(
        "--artifacts",
        type=Path,
        default=ARTIFACTS,
        help="folder of the models (default: artifacts/)",
    )
    parser.add_argument(
        "--hub", action="store_true", help="pack full-size models from the Hugging Face hub instead"
    )
    return parser.parse_args()


if __name__ == "__main__":
    main()
