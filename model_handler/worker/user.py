"""Become the user of the model's process, before any code of the artifact is imported.

Not to be undone: no capability is kept, and `no_new_privs` makes setuid programs ordinary ones.
"""

import codecs
import ctypes
import os
import signal
import tempfile
from pathlib import Path

from model_handler.device import named_memory
from model_handler.errors import ModelLoadFailed
from model_handler.messages import Load

PR_SET_PDEATHSIG, PR_SET_DUMPABLE, PR_SET_NO_NEW_PRIVS = 1, 4, 38  # linux/prctl.h

CODECS = ("idna", "punycode", "utf-16", "utf-32")  # Python loads them when they are first used


def forbid_privileges() -> None:
    """For this thread and all that it starts: call it before there are others."""
    _prctl(PR_SET_NO_NEW_PRIVS, 1)


def become(load: Load) -> None:
    """Raises ModelLoadFailed where the user cannot reach the artifact."""
    if not load.uid or os.getuid() == load.uid:
        return
    for name in CODECS:
        codecs.lookup(name)
    parent = os.getppid()
    os.setgroups(load.gids)
    os.setresgid(load.uid, load.uid, load.uid)
    os.setresuid(load.uid, load.uid, load.uid)
    named_memory.own.group = load.uid
    _prctl(PR_SET_PDEATHSIG, signal.SIGKILL)  # the change of user has cleared it
    if os.getppid() != parent:
        os._exit(1)
    _prctl(PR_SET_DUMPABLE, 1)  # so that its files in /proc/self belong to it
    os.umask(0o077)
    _move_in(load)
    if not os.access(load.path, os.R_OK | os.X_OK):
        raise ModelLoadFailed(
            f"user {load.uid} cannot reach {load.path}: the directories above it need the permission o+x"
        )


def _move_in(load: Load) -> None:
    os.environ |= {
        "HOME": load.home,
        "TMPDIR": load.home,
        "USER": f"mme-{load.uid}",
        "LOGNAME": f"mme-{load.uid}",
    }
    tempfile.tempdir = None
    os.chdir(load.home)


def store(load: Load, shared: Path | None) -> Path | None:
    """The directory for installed requirements: its own, since a user could change those of others."""
    return Path(load.home, "requirements") if load.uid and shared is not None else shared


def _prctl(option: int, argument: int) -> None:
    if ctypes.CDLL(None, use_errno=True).prctl(option, argument, 0, 0, 0):
        raise OSError(ctypes.get_errno(), f"prctl {option}")
