"""File stamps: a changed stamp shows that a file is not the one that was read before."""

import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from model_handler.errors import ModelLoadFailed


@dataclass(frozen=True, slots=True)
class Stamp:
    device: int
    inode: int
    nbytes: int
    modified_ns: int

    @classmethod
    def of(cls, file: str | int) -> Self:
        """`file`: a path or an open descriptor."""
        stat = os.stat(file)  # noqa: PTH116 - pathlib takes no descriptors
        return cls(stat.st_dev, stat.st_ino, stat.st_size, stat.st_mtime_ns)


Stamps = dict[str, Stamp]  # by real path


def stamped(files: Iterable[Path]) -> Stamps:
    paths = [os.path.realpath(file) for file in files]
    return {path: Stamp.of(path) for path in paths}


@contextmanager
def opened(stamps: Mapping[str, Stamp]) -> Iterator[dict[str, int]]:
    """An open descriptor for each file, by path.

    Raises ModelLoadFailed where a file no longer matches its stamp, on entry or on exit of the block. After
    a failure on exit, discard what was read.
    """
    with ExitStack() as stack:
        descriptors = {path: _open(path, stack) for path in stamps}
        _check(stamps, descriptors)
        yield descriptors
        _check(stamps, descriptors)


def _open(path: str, stack: ExitStack) -> int:
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    stack.callback(os.close, descriptor)
    return descriptor


def _check(stamps: Mapping[str, Stamp], descriptors: Mapping[str, int]) -> None:
    for path, descriptor in descriptors.items():
        if Stamp.of(descriptor) != stamps[path]:
            raise ModelLoadFailed(f"{Path(path).name} has changed since the model was loaded")
