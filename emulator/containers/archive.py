"""Safe extraction of model archives (`.tar.gz`).

Invariants: nothing is written outside the destination, and no more bytes than were measured. Whatever an
archive holds is a BadArchive: its headers are read once from start to end, within limits of size and time.
"""

import gzip
import os
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath

from backports import tarfile  # the standard library has extraction filters since 3.11.4 only

_MOST_MEMBERS = 100_000
_MAX_DEPTH = (
    64  # directories below each other; nothing deeper is created, so it can also be removed
)
_MAX_NAME_CHARS = 4096
_MAX_READ_NBYTES = 256 << 10  # tarfile reads an extended header into memory and searches it
_MAX_HEADERS_NBYTES = 32 << 20  # of all members
_MAX_READS_AT_END = 16  # tarfile's loop over a sparse map does not notice the end
_START_S = 60.0  # time limit for reading an archive, plus
_NBYTES_PER_S = 4 << 20  # its size at this rate


class BadArchive(Exception):
    """Not a gzipped tar file, or a member that would leave the destination."""


class ArchiveTooLarge(BadArchive):
    """The extracted files would not fit on the volume."""


def measure(path: Path, limit_nbytes: int) -> int:
    """The size of the extracted files in bytes. Checks every member. Raises BadArchive."""
    nbytes = headers_nbytes = 0
    with _members(path) as (_, members):
        for number, member in enumerate(members):
            _check(member)
            nbytes += member.size if member.isfile() else 0
            headers_nbytes += sum(map(len, member.pax_headers.values()))
            if headers_nbytes > _MAX_HEADERS_NBYTES:
                raise BadArchive("extended headers that are too long")
            if nbytes > limit_nbytes or number >= _MOST_MEMBERS:
                raise ArchiveTooLarge(f"more than {limit_nbytes} bytes or too many members")
    return nbytes


def extract(path: Path, destination: Path) -> None:
    """Extracts into a new directory. Requires a previous `measure`. Raises BadArchive, after removing the
    directory."""
    destination.mkdir(parents=True)
    try:
        with _members(path) as (archive, members):
            for member in members:
                _check(member)
                archive.extract(member, destination, filter="data")
            _check_tree(destination)
    except BaseException:  # whatever it was, no part of the archive stays
        shutil.rmtree(destination, ignore_errors=True)
        raise


@contextmanager
def _members(path: Path) -> Iterator[tuple[tarfile.TarFile, Iterator[tarfile.TarInfo]]]:
    try:
        with (
            _ForwardGzip(path) as stream,
            tarfile.open(fileobj=stream, mode="r:") as archive,
        ):
            yield archive, iter(archive)
    except BadArchive:
        raise
    # Broad: tarfile raises whatever its parser meets in malformed headers, RecursionError included
    except Exception as error:
        raise BadArchive(str(error) or type(error).__name__) from error


class _ForwardGzip(gzip.GzipFile):
    """A stream of the unpacked bytes, read once, within limits of time and of one read."""

    def __init__(self, path: Path) -> None:
        super().__init__(path, "rb")
        self._deadline = time.monotonic() + _START_S + path.stat().st_size / _NBYTES_PER_S
        self._reads_at_end = 0

    def read(self, nbytes: int | None = -1) -> bytes:
        if nbytes is None or not 0 <= nbytes <= _MAX_READ_NBYTES:
            raise BadArchive("an extended header that is too long")
        if time.monotonic() > self._deadline:
            raise BadArchive("it takes too long to read")
        data = super().read(nbytes)
        self._reads_at_end += bool(nbytes and not data)
        if self._reads_at_end > _MAX_READS_AT_END:
            raise BadArchive("a header that does not end")
        return data

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """In steps, so that the time limit applies to members that are skipped."""
        if (offset, whence) == (0, os.SEEK_CUR):
            return super().seek(0, whence)  # this is how `tell` works
        if whence != os.SEEK_SET or offset < self.tell():
            raise BadArchive("a header that leads backwards")
        while (left := offset - self.tell()) > 0 and self.read(min(left, _MAX_READ_NBYTES)):
            pass
        return self.tell()


def _check(member: tarfile.TarInfo) -> None:
    if max(len(member.name), len(member.linkname)) > _MAX_NAME_CHARS:
        raise BadArchive(f"a name of more than {_MAX_NAME_CHARS} characters")
    name = PurePosixPath(member.name)
    if len(name.parts) > _MAX_DEPTH:
        raise BadArchive(f"{member.name[:40]!r}… is more than {_MAX_DEPTH} directories deep")
    if _leaves(name):
        raise BadArchive(f"{member.name!r} is outside the archive")
    if member.issym() and _leaves(name.parent / member.linkname):
        raise BadArchive(f"{member.name!r} links to {member.linkname!r}, outside the archive")
    if member.islnk() and _leaves(PurePosixPath(member.linkname)):
        raise BadArchive(f"{member.name!r} links to {member.linkname!r}, outside the archive")
    if member.issparse():
        raise BadArchive(f"{member.name!r} is a sparse file")
    if not (member.isfile() or member.isdir() or member.issym() or member.islnk()):
        raise BadArchive(f"{member.name!r} is neither file, directory nor link")


def _leaves(path: PurePosixPath) -> bool:
    return path.is_absolute() or os.path.normpath(path).split("/")[0] == ".."


def _check_tree(root: Path) -> None:
    """A second look, at what was written: every link has its target inside."""
    top = Path(os.path.realpath(root))
    for folder, directories, files in os.walk(top):
        for name in (*directories, *files):
            path = Path(folder, name)
            if path.is_symlink() and not Path(os.path.realpath(path)).is_relative_to(top):
                raise BadArchive(f"{name!r} links outside the archive")
