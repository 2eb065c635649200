"""Unpacking a `.tar.gz` somebody else made: nothing of it lands outside the directory it is given.

Python 3.11 has no extraction filter in all its releases, so every member is checked and written here.
"""

import gzip
import os
import shutil
import tarfile
import zlib
from pathlib import Path, PurePosixPath
from typing import IO

MAX_MEMBERS = 100_000
MAX_RATIO = 50  # weights hardly compress; what unpacks to much more than this is a bomb
SLACK_NBYTES = 64 << 20  # small archives of test models are mostly zeros
COPY_NBYTES = 1 << 20
MAX_READ_NBYTES = 16 << 20  # tarfile reads extended headers whole


class ArchiveRefused(Exception):
    """`str(error)` is one line: what about the archive cannot be accepted."""


def unpack(archive: Path, into: Path) -> None:
    """Fill the new directory `into`. Raises ArchiveRefused, and then leaves nothing behind."""
    into.mkdir(parents=True)
    try:
        with _BoundedGzip(archive, _budget(archive, into)) as stream:
            with tarfile.open(fileobj=stream, mode="r:") as tar:
                _Unpacking(into).run(tar)
            stream.finish()
    except BaseException as error:
        shutil.rmtree(into)
        if isinstance(error, tarfile.TarError | EOFError | OSError | zlib.error | ValueError):
            raise ArchiveRefused(f"{archive.name} cannot be unpacked: {error}") from error
        raise


def _budget(archive: Path, into: Path) -> int:
    bound = archive.stat().st_size * MAX_RATIO + SLACK_NBYTES
    return min(bound, shutil.disk_usage(into).free)


class _BoundedGzip(gzip.GzipFile):
    """The unpacked bytes, up to a budget."""

    def __init__(self, path: Path, budget_nbytes: int) -> None:
        super().__init__(path, "rb")
        self._budget_nbytes = budget_nbytes

    def read(self, nbytes: int | None = -1) -> bytes:
        if nbytes is None or not 0 <= nbytes <= MAX_READ_NBYTES:
            raise ArchiveRefused("a header of absurd length")
        self._spend(self.tell() + nbytes)
        return super().read(nbytes)

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        self._spend(offset)
        return super().seek(offset, whence)

    def finish(self) -> None:
        """Read to the end, where gzip keeps the checksum: tarfile stops before it."""
        while self.read(COPY_NBYTES):
            pass

    def _spend(self, position: int) -> None:
        if position > self._budget_nbytes:
            raise ArchiveRefused("unpacks to more than can be accepted")


class _Unpacking:
    """Links are made last, when nothing more is written that could go through them."""

    def __init__(self, root: Path) -> None:
        self._root = Path(os.path.realpath(root))
        self._links: list[tarfile.TarInfo] = []

    def run(self, tar: tarfile.TarFile) -> None:
        for count, member in enumerate(tar, start=1):
            if count > MAX_MEMBERS:
                raise ArchiveRefused(f"more than {MAX_MEMBERS} members")
            self._take(tar, member)
        for member in self._links:
            self._link(member)
        for member in self._links:
            self._check(member)  # a later link may have changed where an earlier one leads

    def _take(self, tar: tarfile.TarFile, member: tarfile.TarInfo) -> None:
        path = self._inside(member.name, member)
        if member.isdir():
            path.mkdir(parents=True, exist_ok=True)
        elif member.issym() or member.islnk():
            self._links.append(member)
        elif member.isreg():
            source = tar.extractfile(member)
            assert source is not None  # it is a regular file
            self._write(source, path)
        else:
            raise ArchiveRefused(f"{member.name!r} is neither file, directory nor link")

    def _inside(self, name: str, member: tarfile.TarInfo) -> Path:
        pure = PurePosixPath(name)
        if pure.is_absolute() or ".." in pure.parts or "\0" in name:
            raise ArchiveRefused(f"{member.name!r} leads out of the archive")
        return self._root / pure

    def _write(self, source: IO[bytes], path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("xb") as file:
            shutil.copyfileobj(source, file, COPY_NBYTES)

    def _link(self, member: tarfile.TarInfo) -> None:
        path = self._inside(member.name, member)
        if not Path(os.path.realpath(path.parent)).is_relative_to(self._root):
            raise ArchiveRefused(f"{member.name!r} leads out of the archive")
        path.parent.mkdir(parents=True, exist_ok=True)
        if member.islnk():
            os.link(self._target(member.linkname, member), path)
            return
        path.symlink_to(member.linkname)
        self._check(member)

    def _check(self, member: tarfile.TarInfo) -> None:
        path = self._inside(member.name, member)
        if not Path(os.path.realpath(path)).is_relative_to(self._root):
            raise ArchiveRefused(f"link {member.name!r} leads out of the archive")

    def _target(self, name: str, member: tarfile.TarInfo) -> Path:
        """The file a hard link repeats: one of the archive's own."""
        target = self._inside(name, member)
        if not Path(os.path.realpath(target)).is_relative_to(self._root):
            raise ArchiveRefused(f"link {member.name!r} leads out of the archive")
        return target
