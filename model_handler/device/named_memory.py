"""Files in /dev/shm that a process's code leaves: they stay in memory when nobody has them open.

Where it may, each process with code from artifacts takes a group of its own, which its files get, also those
of the processes that it starts. Nothing else distinguishes them from files of others.
"""

import ctypes
import os
import secrets
import signal
import stat
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

DIRECTORY = Path("/dev/shm")
GROUPS = range(0x40000000, 0x50000000)  # beyond those that systems assign
_PR_SET_PDEATHSIG, _PR_SET_DUMPABLE = 1, 4  # linux/prctl.h


@dataclass(slots=True)
class _Own:
    group: int | None = None


own = _Own()
"""`group`: the one that only this process and those that it starts have; None: it shares its group."""


def take_group() -> None:
    """Of the calling process, which has no other threads. Nothing happens without the permission."""
    parent, group = os.getppid(), secrets.choice(GROUPS)
    with suppress(OSError):  # not root, or an id that the container's user namespace does not have
        os.setegid(group)
    if os.getegid() != group:
        return
    own.group = group
    libc = ctypes.CDLL(None)
    libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)  # both were cleared by the change
    libc.prctl(_PR_SET_DUMPABLE, 1, 0, 0, 0)
    if os.getppid() != parent:
        os._exit(1)


def group_of(pid: int) -> int | None:
    """The group that the process took; None if it has none of its own."""
    with suppress(OSError, ValueError, IndexError):
        status = Path(f"/proc/{pid}/status").read_text()
        group = int(status.partition("\nGid:")[2].split()[1])
        return group if group in GROUPS else None
    return None


def files_of(group: int) -> Iterator[tuple[Path, os.stat_result]]:
    """The regular files of the group."""
    for folder, _, names in os.walk(DIRECTORY):
        for name in names:
            with suppress(OSError):
                path = Path(folder, name)
                found = path.lstat()
                if found.st_gid == group and stat.S_ISREG(found.st_mode):
                    yield path, found


def remove(group: int) -> int:
    """Remove the files of a group whose processes have ended, and return their bytes."""
    nbytes = 0
    for path, found in list(files_of(group)):
        with suppress(OSError):
            path.unlink()
            nbytes += found.st_blocks * 512
    return nbytes
