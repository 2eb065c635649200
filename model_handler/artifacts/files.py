"""What may be in an artifact's directory: regular files and directories, of bounded number and size.

Checked before any file of it is opened, because libraries open files by name and wait for what is no file.
Between this check and the use of a file, only somebody who may write to the directory could replace it.
"""

import os
import stat
from collections.abc import Iterator, Mapping
from pathlib import Path

from model_handler.artifacts.documents import CONFIG_NBYTES, TABLE_NBYTES
from model_handler.errors import ModelLoadFailed

MAX_ENTRIES = 100_000
MAX_DEPTH = 32
_KINDS = {
    stat.S_IFIFO: "a FIFO",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}
# Files that libraries read whole, by suffix. Weights are not among them: they are counted from their headers
_LIMITS = {
    **dict.fromkeys((".json", ".txt", ".model", ".spm", ".vocab", ".bpe", ".codes"), TABLE_NBYTES),
    ".tiktoken": TABLE_NBYTES,
    ".jinja": CONFIG_NBYTES,
}
CONFIGS = dict.fromkeys(
    (
        *("config.json", "generation_config.json", "adapter_config.json", "chat_template.json"),
        *("preprocessor_config.json", "processor_config.json", "special_tokens_map.json"),
        *("video_preprocessor_config.json", "image_processor_config.json"),
    ),
    CONFIG_NBYTES,
)


def sizes(root: Path) -> dict[str, int]:
    """The size of each regular file in `root`, by its path in there.

    Raises ModelLoadFailed for anything but regular files, directories, and links to such in `root`; OSError
    for a directory that cannot be read.
    """
    real, found = os.path.realpath(root), {}
    for entry in _entries(root):
        if entry.is_symlink():
            _check_link(real, entry.path, _shown(root, entry))
        status = _status(entry)
        if status is None or stat.S_ISDIR(status.st_mode):
            continue
        if not stat.S_ISREG(status.st_mode):
            what = _KINDS.get(stat.S_IFMT(status.st_mode), "a special file")
            raise ModelLoadFailed(
                f"{_shown(root, entry)} is {what}: pack the artifact without it, with regular files only"
            )
        found[_shown(root, entry)] = status.st_size
    return found


def check_limits(sizes: Mapping[str, int]) -> None:
    """Raises ModelLoadFailed for a file that libraries read whole and that is too large for its kind."""
    for name, nbytes in sizes.items():
        suffix = os.path.splitext(name)[1].lower()
        limit = CONFIGS.get(os.path.basename(name)) or _LIMITS.get(suffix)
        if limit is not None and nbytes > limit:
            raise ModelLoadFailed(
                f"{name} has {nbytes} bytes; at most {limit} bytes of such a file are read"
            )


def _entries(root: Path) -> Iterator[os.DirEntry[str]]:
    """All entries below `root`; directories behind links are not entered."""
    level, seen = [str(root)], 0
    for _ in range(MAX_DEPTH):
        deeper = []
        for directory in level:
            with os.scandir(directory) as entries:
                for entry in entries:
                    seen += 1
                    if seen > MAX_ENTRIES:
                        raise ModelLoadFailed(f"the artifact has more than {MAX_ENTRIES} files")
                    yield entry
                    if entry.is_dir(follow_symlinks=False):
                        deeper.append(entry.path)
        if not deeper:
            return
        level = deeper
    raise ModelLoadFailed(f"the artifact has directories nested deeper than {MAX_DEPTH}")


def _status(entry: os.DirEntry[str]) -> os.stat_result | None:
    """What the entry, or the link's target, is; None for a link to nothing, which is like a missing file."""
    try:
        return entry.stat()
    except FileNotFoundError:
        return None
    except OSError as error:  # a link to itself
        raise ModelLoadFailed(f"{entry.name} cannot be read: {error.strerror}") from error


def _check_link(root: str, path: str, shown: str) -> None:
    target = os.path.realpath(path)
    allowed = (root, *_blobs(root))
    if target == root or any(target.startswith(f"{each}{os.sep}") for each in allowed):
        return
    raise ModelLoadFailed(
        f"{shown} is a link that leads out of the artifact: put a copy of the file in its place"
    )


def _blobs(root: str) -> tuple[str, ...]:
    """Where the files of a hub cache are: links in <model>/snapshots/<revision> lead to <model>/blobs."""
    snapshots = os.path.dirname(root)
    model = os.path.dirname(snapshots)
    cached = os.path.basename(snapshots) == "snapshots" and "--" in os.path.basename(model)
    return (os.path.join(model, "blobs"),) if cached else ()


def _shown(root: Path, entry: os.DirEntry[str]) -> str:
    name = os.path.relpath(entry.path, root)
    return name.encode("utf-8", "replace").decode()[:200]
