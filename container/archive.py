"""Unpacks untrusted `.tar.gz` files. Invariant: no file is written outside the given directory.

Every member is checked and written here, because not all releases of Python 3.11 have tarfile's extraction
filters.
"""

import gzip
import os
import shutil
import tarfile
import zlib
from pathlib import Path, PurePosixPath
from typing import IO

MAX_MEMBERS = 100_000
MAX_RATIO = 50  # weights hardly compress; an archive with a higher ratio is a decompression bomb
SLACK_NBYTES = 64 << 20  # small archives of test models are mostly zeros
COPY_NBYTES = 1 << 20
MAX_READ_NBYTES = 16 << 20  # tarfile reads extended headers into memory


class ArchiveRefused(Exception):
    """`str(error)` is one line with the reason."""


def unpack(archive: Path, into: Path) -> None:
    """Unpack into the new directory `into`. Raises ArchiveRefused, after removing the directory."""
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
    """A stream of the unpacked bytes. Reading beyond the budget is an error."""

    def __init__(self, path: Path, budget_nbytes: int) -> None:
        super().__init__(path, "rb")
        self._budget_nbytes = budget_nbytes

    def read(self, nbytes: int | None = -1) -> bytes:
        if nbytes is None or not 0 <= nbytes <= MAX_READ_NBYTES:
            raise ArchiveRefused("an extended header that is too long")
        self._spend(self.tell() + nbytes)
        return super().read(nbytes)

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        self._spend(offset)
        return super().seek(offset, whence)

    def finish(self) -> None:
        """Read the rest, since tarfile stops before gzip's checksum, which is then verified."""
        while self.read(COPY_NBYTES):
            pass

    def _spend(self, position: int) -> None:
        if position > self._budget_nbytes:
            raise ArchiveRefused("unpacks to more bytes than allowed")


class _Unpacking:
    """Links are created last, so that no file is written through them."""

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
            self._check(member)  # a later link can change the target of an earlier one

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
            raise ArchiveRefused(f"{member.name!r} points outside the archive")
        return self._root / pure

    def _write(self, source: IO[bytes], path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("xb") as file:
            shutil.copyfileobj(source, file, COPY_NBYTES)

    def _link(self, member: tarfile.TarInfo) -> None:
        path = self._inside(member.name, member)
        if not Path(os.path.realpath(path.parent)).is_relative_to(self._root):
            raise ArchiveRefused(f"{member.name!r} points outside the archive")
        path.parent.mkdir(parents=True, exist_ok=True)
        if member.islnk():
            os.link(self._target(member.linkname, member), path)
            return
        path.symlink_to(member.linkname)
        self._check(member)

    def _check(self, member: tarfile.TarInfo) -> None:
        path = self._inside(member.name, member)
        if not Path(os.path.realpath(path)).is_relative_to(self._root):
            raise ArchiveRefused(f"link {member.name!r} points outside the archive")

    def _target(self, name: str, member: tarfile.TarInfo) -> Path:
        """The file of the archive to which a hard link points."""
        target = self._inside(name, member)
        if not Path(os.path.realpath(target)).is_relative_to(self._root):
            raise ArchiveRefused(f"link {member.name!r} points outside the archive")
        return target
