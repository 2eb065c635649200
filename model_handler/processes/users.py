"""A user of its own for each process of one model (MME_ISOLATE_USERS); the front runs as root.

While a model is loaded, its directory is closed to other users; that of a model in a process of its own is
readable by the group of its user. Invariants: `release` gives a directory its former owner, group and mode;
a uid is used again only after all its processes have ended, its files in `home` are gone and no directory has
its group.
"""

import asyncio
import logging
import os
import shutil
import signal
import stat
import tempfile
from collections.abc import Hashable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from model_handler.device import named_memory
from model_handler.errors import EngineError, InsufficientMemory, ModelLoadFailed
from model_handler.model import Model, User

log = logging.getLogger(__name__)
MAX_ENTRIES = 10_000  # files of an artifact whose permissions are looked at
SWEEPS = 100  # a process may fork while its user's processes are ended
# Environment variables that processes with code from artifacts get; no others are copied to them
VARIABLES = (
    "AWS_DEFAULT_REGION",
    "AWS_REGION",
    "LANG",
    "LANGUAGE",
    "LD_LIBRARY_PATH",
    "LD_PRELOAD",
    "PATH",
    "TZ",
    "VIRTUAL_ENV",
)
PREFIXES = (
    "CUDA_",
    "KMP_",
    "LC_",
    "MKL_",
    "NCCL_",
    "NVIDIA_",
    "OMP_",
    "OPENBLAS_",
    "PYTHON",
    "PYTORCH_",
    "TOKENIZERS_",
    "TORCH_",
    "TRANSFORMERS_",
)


def environment(environ: Mapping[str, str]) -> dict[str, str]:
    """The variables of `environ` that code from artifacts may read."""
    return {
        name: value
        for name, value in environ.items()
        if name in VARIABLES or name.startswith(PREFIXES)
    }


@dataclass(frozen=True, slots=True)
class Permissions:
    path: Path
    uid: int
    gid: int
    mode: int

    @classmethod
    def of(cls, path: Path) -> "Permissions":
        status = path.lstat()
        return cls(path, status.st_uid, status.st_gid, stat.S_IMODE(status.st_mode))

    def restore(self) -> None:
        with suppress(FileNotFoundError):
            os.chown(self.path, self.uid, self.gid, follow_symlinks=False)
            self.path.chmod(self.mode)


@dataclass(slots=True)
class ClosedDirectory:
    """`group`: may read it; None: root only. `changed`: what to restore, the directory itself last."""

    group: int | None = None
    holders: int = 0
    changed: list[Permissions] = field(default_factory=list)


class ProcessUser:
    """The user of the processes of one model, or of all models that share a process."""

    def __init__(self, uid: int, home: Path) -> None:
        self.uid = uid
        self.home = home


class UserPool:
    """`uids`: first and last of the range. `roots`: of the models' directories."""

    def __init__(self, uids: tuple[int, int], roots: tuple[Path, ...]) -> None:
        self._range = range(uids[0], uids[1] + 1)
        self._roots = roots
        self._base: Path | None = None  # of the users' homes
        self._used: set[int] = set()
        self._closed: dict[Path, ClosedDirectory] = {}
        self._unlisted: dict[Path, Permissions] = {}
        self._cleaning: set[asyncio.Task[None]] = set()

    # ---- users ----

    def take(self) -> ProcessUser:
        """Raises InsufficientMemory when all are in use: then the platform unloads a model."""
        groups = {closed.group for closed in self._closed.values()}
        for uid in self._range:
            if uid not in self._used and uid not in groups:
                self._used.add(uid)
                return ProcessUser(uid, self._home(uid))
        raise InsufficientMemory(f"all {len(self._range)} users of MME_ISOLATE_USER_RANGE are used")

    def _home(self, uid: int) -> Path:
        if self._base is None:
            self._base = Path(tempfile.mkdtemp(prefix="mme-users-"))
            self._base.chmod(0o711)
        home = self._base / str(uid)
        home.mkdir(mode=0o700)
        os.chown(home, uid, uid)
        return home

    def give_back(self, user: ProcessUser) -> None:
        """End what still runs as this user; its files are removed in the background."""
        _end_processes(user.uid)
        task = asyncio.create_task(self._clean(user))
        self._cleaning.add(task)
        task.add_done_callback(self._cleaning.discard)

    async def _clean(self, user: ProcessUser) -> None:
        await asyncio.to_thread(shutil.rmtree, user.home, ignore_errors=True)
        await asyncio.to_thread(named_memory.remove, user.uid)
        if not user.home.exists() and not [*_processes(user.uid)]:
            self._used.discard(user.uid)
        else:
            log.error("a user is not used again: it left files", extra={"uid": user.uid})

    async def stop(self) -> None:
        if self._cleaning:
            await asyncio.wait(self._cleaning)
        for path in list(self._closed):
            self._restore(path)
        for before in self._unlisted.values():
            before.restore()
        self._unlisted.clear()
        if self._base is not None:
            await asyncio.to_thread(shutil.rmtree, self._base, ignore_errors=True)

    # ---- directories ----

    def close(self, path: Path, user: ProcessUser | None) -> tuple[int, ...]:
        """Close a model's directory to other users than root and `user`; the groups that the user needs.
        Raises ModelLoadFailed where permissions cannot be changed."""
        closed = self._closed.get(path)
        if closed is None:
            closed = self._closed[path] = ClosedDirectory()
        closed.holders += 1
        try:
            self._close(path, closed, user)
        except OSError as error:
            self.release(path)
            raise ModelLoadFailed(
                f"MME_ISOLATE_USERS cannot close the model's directory: {error.strerror}"
            ) from error
        except ModelLoadFailed:
            self.release(path)
            raise
        return () if closed.group is None else (closed.group,)

    def _close(self, path: Path, closed: ClosedDirectory, user: ProcessUser | None) -> None:
        if _is_read_only(path):
            _check_readable(path, user)
            return
        self._unlist(path)
        if not closed.changed:
            closed.changed.append(Permissions.of(path))
            path.chmod(0o700)
        if user is None or closed.group is not None:
            return
        closed.group = user.uid
        for entry in _entries(path):
            _grant(entry, closed)
        os.chown(path, -1, user.uid)
        path.chmod(0o750)

    def _unlist(self, path: Path) -> None:
        """Names of other models cannot be listed: the directories of those that are not loaded are open."""
        for root in self._roots:
            if path == root or not path.is_relative_to(root) or _is_read_only(root):
                continue
            if root not in self._unlisted:
                before = self._unlisted[root] = Permissions.of(root)
                root.chmod(before.mode & ~0o044 | 0o011)

    def release(self, path: Path) -> None:
        """Once for each `close`."""
        closed = self._closed.get(path)
        if closed is not None:
            closed.holders -= 1
            if not closed.holders:
                self._restore(path)

    def _restore(self, path: Path) -> None:
        for before in reversed(self._closed.pop(path).changed):
            before.restore()


class ModelUsers:
    """The users of the models' processes, and the directories that are closed while a model is loaded.
    Without a `pool`, every process keeps the user of the front."""

    def __init__(self, pool: UserPool | None) -> None:
        self._pool = pool
        self._of: dict[Hashable, ProcessUser] = {}
        self._closed: dict[int, Path] = {}

    def admit(self, model: Model, process: Hashable | None) -> None:
        """Close the model's directory to the users of other models. `process`: what ends with `ended`, and
        becomes another user when it loads the model; None: it keeps its user, or the one that it has.

        Raises ModelLoadFailed, and InsufficientMemory if no user is left.
        """
        if self._pool is None:
            return
        path, user = model.artifact.path, None
        if process is not None:
            user = self._of.get(process) or self._pool.take()
        try:
            groups = self._pool.close(path, user)
        except EngineError:
            if user is not None and process not in self._of:
                self._pool.give_back(user)
            raise
        self.dismiss(model)
        self._closed[model.model_id] = path
        if user is not None:
            self._of[process] = user
            model.user = User(user.uid, groups, str(user.home))

    def dismiss(self, model: Model) -> None:
        """Open its directory again, unless another model is loaded from it."""
        path = self._closed.pop(model.model_id, None)
        if self._pool is not None and path is not None:
            self._pool.release(path)

    def ended(self, process: Hashable) -> None:
        """It will not be started again."""
        user = self._of.pop(process, None)
        if self._pool is not None and user is not None:
            self._pool.give_back(user)

    async def stop(self) -> None:
        if self._pool is not None:
            await self._pool.stop()


def _is_read_only(path: Path) -> bool:
    return bool(os.statvfs(path).f_flag & os.ST_RDONLY)


def _check_readable(path: Path, user: ProcessUser | None) -> None:
    """On a read-only file system nothing can be closed, nor opened to a user. Raises ModelLoadFailed."""
    log.warning("other models can read this read-only directory", extra={"path": str(path)})
    if user is not None and path.stat().st_mode & 0o005 != 0o005:
        raise ModelLoadFailed(
            "the model's directory is on a read-only file system and closed to other users than its owner:"
            " MME_ISOLATE_USERS runs its code as one of them"
        )


def _entries(path: Path) -> Iterator[Path]:
    count = 0
    for folder, directories, files in os.walk(path):
        for name in (*directories, *files):
            count += 1
            if count > MAX_ENTRIES:
                raise ModelLoadFailed(f"the artifact has more than {MAX_ENTRIES} files")
            yield Path(folder, name)


def _grant(path: Path, closed: ClosedDirectory) -> None:
    """Let the group read a file or directory that others cannot read. Files with several hard links are left
    alone: one of them may be another model's."""
    status = path.lstat()
    directory = stat.S_ISDIR(status.st_mode)
    needed = 0o005 if directory else 0o004
    single = directory or (stat.S_ISREG(status.st_mode) and status.st_nlink == 1)
    if not single or status.st_mode & needed == needed:
        return
    before = Permissions.of(path)
    closed.changed.append(before)
    assert closed.group is not None
    os.chown(path, -1, closed.group, follow_symlinks=False)
    path.chmod(before.mode | needed << 3)


def _end_processes(uid: int) -> None:
    for _ in range(SWEEPS):
        pids = [*_processes(uid)]
        if not pids:
            return
        for number in (signal.SIGSTOP, signal.SIGKILL):  # stopped, none can fork
            for pid in pids:
                with suppress(ProcessLookupError):
                    os.kill(pid, number)


def _processes(uid: int) -> Iterator[int]:
    """Those with this real or effective uid, without zombies."""
    for entry in os.scandir("/proc"):
        if entry.name.isdecimal():
            with suppress(OSError):
                status = Path("/proc", entry.name, "status").read_text()
                lines = dict(line.split(":", 1) for line in status.splitlines() if ":" in line)
                if str(uid) in lines["Uid"].split() and not lines["State"].strip().startswith("Z"):
                    yield int(entry.name)
