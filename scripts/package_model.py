"""python scripts/package_model.py sentiment --output sentiment.tar.gz --upload s3://my-bucket/models/

Packs a model into a .tar.gz archive for a multi-model endpoint. The model is a directory with one of:
    - files written by `save_pretrained`
    - your own code: code/inference.py or handler.py
    - a single model file: .pt2, .onnx, .skops, .ubj or .pt
or the id of a model on the Hugging Face hub, which needs the package huggingface_hub.

The files are checked first: code must compile; without code, there must be a configuration, weights, a
tokenizer or processor, and no pickle except pytorch_model.bin; links must not be absolute. Equal files
give an archive with equal bytes.
"""

import argparse
import fnmatch
import gzip
import json
import tarfile
import tempfile
import zipfile
from pathlib import Path

import command_line
from command_line import ScriptError

CODE = ("code/inference.py", "inference.py", "handler.py", "code/handler.py")
SINGLE_FILES = (
    "*.pt2", "*.onnx", "*.skops", "*.ubj", "xgboost-model", "xgboost-model.json", "model.json",
    "*.pt", "*.pth", "*.ts",
)  # fmt: skip
WEIGHTS = ("model.safetensors", "pytorch_model.bin")
PREPARATION = (
    "tokenizer.json", "tokenizer_config.json", "vocab.txt", "vocab.json", "*.spm", "*.model",
    "preprocessor_config.json", "processor_config.json",
)  # fmt: skip
PICKLES = ("*.pkl", "*.pickle", "*.pt", "*.pth", "*.ckpt", "*.joblib", "*.bin")
HUB_FILES = ["*.json", "*.txt", "*.model", "*.spm"]
PICKLE_STARTS = tuple(b"\x80" + bytes([protocol]) for protocol in range(2, 6))


def main() -> None:
    options = arguments()
    name = options.model.rstrip("/").rpartition("/")[2]
    archive = options.output or Path(f"{name}.tar.gz")
    with command_line.errors_in_one_line():
        with tempfile.TemporaryDirectory() as folder:
            directory = Path(options.model)
            if not directory.is_dir():
                directory = download(options.model, Path(folder))
            files = checked(directory, options.exclude)
            pack(directory, files, archive)
        print(f"{archive} {archive.stat().st_size:,} bytes, {len(files)} files")
        if options.upload:
            upload(archive, options.upload)


def arguments() -> argparse.Namespace:
    parser = command_line.parser(__doc__)
    parser.add_argument(
        "model", metavar="DIRECTORY|HUB_ID", help="model directory, or id of a model on the hub"
    )
    parser.add_argument(
        "--output", type=Path, metavar="FILE", help="archive to write (default: <name>.tar.gz)"
    )
    parser.add_argument(
        "--upload",
        metavar="S3_PREFIX",
        help="upload the archive to this prefix; an existing key is not overwritten",
    )
    parser.add_argument(
        "--exclude",
        action="append",
        default=[],
        metavar="PATTERN",
        help="leave out matching files, e.g. 'training_args.bin'; may be repeated",
    )
    return parser.parse_args()


def download(repository: str, directory: Path) -> Path:
    """Download the weights in one format, preferably safetensors, and the small files beside them."""
    if repository.count("/") != 1 or repository.startswith((".", "/")):
        raise ScriptError(f"{repository} is neither a directory nor the id of a model on the hub")
    try:
        from huggingface_hub import HfApi, snapshot_download
    except ImportError as error:
        raise ScriptError(
            f"{repository} is no directory; from the hub: pip install huggingface_hub"
        ) from error
    try:
        names = [file.rfilename for file in HfApi().model_info(repository).siblings or []]
        weights = (
            "*.safetensors" if fnmatch.filter(names, "*.safetensors") else "pytorch_model*.bin"
        )
        wanted = [n for n in names if "/" not in n and matches(n, [*HUB_FILES, weights])]
        folder = directory / "model"
        snapshot_download(repository, local_dir=folder, allow_patterns=wanted)
    # The hub's client raises many kinds of exceptions; each means that the download failed.
    except Exception as error:
        reason = str(error).strip().partition("\n")[0] or type(error).__name__
        raise ScriptError(f"cannot download {repository}: {reason}") from error
    return folder


# Check


def checked(directory: Path, exclude: list[str]) -> list[Path]:
    """The files to pack, sorted. Raises ScriptError."""
    paths = [p for p in sorted(directory.rglob("*")) if not left_out(p, directory, exclude)]
    for path in paths:
        check_link(path)
    files = [path for path in paths if path.is_file()]
    names = {path.relative_to(directory).as_posix() for path in files}
    if not names.isdisjoint(CODE):
        check_code(files)  # only the code itself determines which other files it needs
    elif "config.json" in names or not any(matches(name, SINGLE_FILES) for name in names):
        check_hugging_face(directory, files, names)
    return files


def check_code(files: list[Path]) -> None:
    for path in files:
        if path.suffix != ".py":
            continue
        try:
            compile(path.read_bytes(), path, "exec")
        except (SyntaxError, ValueError) as error:
            raise ScriptError(f"{path} is not Python that runs here: {error}") from error


def check_hugging_face(directory: Path, files: list[Path], names: set[str]) -> None:
    check_config(directory, names)
    check_weights(directory, names)
    if not any(matches(name, PREPARATION) for name in names):
        raise ScriptError(
            f"{directory} has neither tokenizer nor processor files (tokenizer.json, …)"
        )
    for path in files:
        check_pickle(path, path.relative_to(directory).as_posix())


def left_out(path: Path, directory: Path, exclude: list[str]) -> bool:
    """True for hidden files (of git and the hub's client), compiled code and excluded files."""
    inside = path.relative_to(directory)
    hidden = any(part.startswith(".") or part == "__pycache__" for part in inside.parts)
    return hidden or matches(inside.as_posix(), exclude)


def matches(name: str, patterns: list[str] | tuple[str, ...]) -> bool:
    return any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns)


def check_link(path: Path) -> None:
    """Links are replaced by their target files. Raises ScriptError for absolute and broken links."""
    if not path.is_symlink():
        return
    if path.readlink().is_absolute():
        raise ScriptError(f"{path} is an absolute link to {path.readlink()}: copy the file")
    if not path.is_file():
        raise ScriptError(f"{path} is a link to no file: {path.readlink()}")


def check_config(directory: Path, names: set[str]) -> None:
    if "config.json" not in names:
        below = sorted(name for name in names if name.endswith("/config.json"))
        hint = f"; did you mean {directory / below[0].rpartition('/')[0]}?" if below else ""
        raise ScriptError(f"{directory} has no config.json{hint}")
    try:
        json.loads((directory / "config.json").read_bytes())
    except ValueError as error:
        raise ScriptError(f"{directory / 'config.json'} is not JSON: {error}") from error


def check_weights(directory: Path, names: set[str]) -> None:
    indexes = [f"{name}.index.json" for name in WEIGHTS if f"{name}.index.json" in names]
    if not indexes and not names.intersection(WEIGHTS):
        raise ScriptError(
            f"{directory} has no weights: {' or '.join(WEIGHTS)}, or shards and an index"
        )
    for index in indexes:
        shards = set(json.loads((directory / index).read_bytes())["weight_map"].values())
        if missing := sorted(shards - names):
            raise ScriptError(
                f"{directory} lacks {len(missing)} of {len(shards)} shards: {missing[0]}"
            )


def check_pickle(path: Path, name: str) -> None:
    """Pickles can run code when they are loaded; the container loads only pytorch_model*.bin, and only as
    weights."""
    if fnmatch.fnmatchcase(name, "pytorch_model*.bin") and "/" not in name:
        return
    if matches(path.name, PICKLES) or is_pickle(path):
        raise ScriptError(f"{path} is a pickle that loading does not need: --exclude '{name}'")


def is_pickle(path: Path) -> bool:
    with path.open("rb") as file:
        start = file.read(2)
    if start != b"PK":
        return start in PICKLE_STARTS
    with zipfile.ZipFile(path) as archive:
        return any(name.endswith(".pkl") for name in archive.namelist())


# Pack and upload


def pack(directory: Path, files: list[Path], archive: Path) -> None:
    """Write regular files only, with fixed owner, time and order."""
    # Level 1: float weights hardly compress. An empty name and a zero time keep the bytes equal.
    with (
        archive.open("wb") as raw,
        gzip.GzipFile("", "wb", compresslevel=1, fileobj=raw, mtime=0) as stream,
        tarfile.open(fileobj=stream, mode="w", format=tarfile.PAX_FORMAT) as tar,
    ):
        for path in files:
            member = tarfile.TarInfo(path.relative_to(directory).as_posix())
            member.size, member.mode = path.stat().st_size, 0o644
            with path.open("rb") as content:
                tar.addfile(member, content)


def upload(archive: Path, prefix: str) -> None:
    if not prefix.startswith("s3://"):
        raise ScriptError(f"--upload takes a prefix such as s3://my-bucket/models/, not {prefix!r}")
    command_line.upload(
        archive, command_line.with_slash(prefix), archive.name, otherwise="a new --output"
    )


if __name__ == "__main__":
    main()
