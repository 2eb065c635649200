"""Memory that the code of a process takes beside the process's own private memory.

Limits on a process's data do not apply to it: shared mappings, files in memory (memfd, /dev/shm) and the
processes that it starts. A file in /dev/shm that no process has open is counted where processes have groups
or users of their own; elsewhere it is bounded by the size of the container's /dev/shm.
"""

import os
import stat
from collections.abc import Iterator
from contextlib import suppress
from functools import cache
from pathlib import Path

from model_handler.device import named_memory

PROC = Path("/proc")
_IN_MEMORY = ("tmpfs", "ramfs", "hugetlbfs")


def beside_nbytes() -> int:
    """Shared memory of this process and its descendants, and private memory of the descendants.

    Takes about 0.1 ms, and 1 ms more for each descendant.
    """
    own = PROC / "self"
    descendants = list(_descendants(own))
    files = dict(file for process in (own, *descendants) for file in _open_files(process))
    if (group := named_memory.own.group) is not None:
        for _, found in named_memory.files_of(group):
            files[found.st_dev, found.st_ino] = found.st_blocks * 512
    mapped, private = _field(own / "status", "RssShmem:"), 0
    for process in descendants:
        mapped += _field(process / "smaps_rollup", "Pss_Shmem:")
        private += _field(process / "smaps_rollup", "Private_Dirty:")
    # A file is mostly mapped too
    return max(mapped, sum(files.values())) + private


def _descendants(process: Path) -> Iterator[Path]:
    """Processes whose parent has ended are children of the isolated process that started them."""
    with suppress(OSError):
        for thread in (process / "task").iterdir():
            for child in (thread / "children").read_text().split():
                yield PROC / child
                yield from _descendants(PROC / child)


def _open_files(process: Path) -> Iterator[tuple[tuple[int, int], int]]:
    """Device, inode and size of each open file that is in memory."""
    with suppress(OSError):
        for descriptor in os.listdir(process / "fd"):  # noqa: PTH208 - faster, and called every request
            with suppress(OSError):
                found = os.stat(f"{process}/fd/{descriptor}")  # noqa: PTH116 - as above
                if stat.S_ISREG(found.st_mode) and found.st_dev in _devices():
                    yield (found.st_dev, found.st_ino), found.st_blocks * 512


@cache
def _devices() -> frozenset[int]:
    """The file systems in memory, among them the one without a directory, which has the files of memfd."""
    unnamed = os.memfd_create("device")
    found = {os.fstat(unnamed).st_dev}
    os.close(unnamed)
    for line in (PROC / "mounts").read_text().splitlines():
        _, directory, kind, *_ = line.split()
        if kind in _IN_MEMORY:
            with suppress(OSError):
                found.add(Path(directory).stat().st_dev)
    return frozenset(found)


def _field(file: Path, name: str) -> int:
    """The bytes in a line such as `RssShmem: 8 kB`; 0 without such a line, or if the process has ended."""
    with suppress(OSError):
        for line in file.read_text().splitlines():
            if line.startswith(name):
                return int(line.split()[1]) * 1024
    return 0
