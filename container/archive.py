"""Unpacks untrusted `.tar.gz` files. Invariants: no file is written outside the given directory, and whatever
an archive holds costs that archive alone.

Every member is checked and written here, because not all releases of Python 3.11 have tarfile's extraction
filters. `unpack_apart` does it in a process of its own, with limits of time and memory: a defect of tarfile,
which reads headers in pure Python, then ends that process. As a program:
`python -I archive.py ARCHIVE DIRECTORY` unpacks, or prints the reason and exits 1.
"""

import gzip
import os
import resource
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path, PurePosixPath
from typing import IO

MAX_ENTRIES = 100_000  # files, directories and links
MAX_DEPTH = 64  # directories below each other; nothing deeper is created, so it can also be removed
MAX_NAME_NBYTES = 4096
MAX_RATIO = 50  # weights hardly compress; an archive with a higher ratio is a decompression bomb
SLACK_NBYTES = 64 << 20  # small archives of test models are mostly zeros
COPY_NBYTES = 1 << 20
MAX_HEADER_NBYTES = 256 << 10  # tarfile reads an extended header into memory and searches it
MAX_HEADERS_NBYTES = 32 << 20  # of all extended headers of more than a block
MAX_READS_AT_END = 16  # tarfile's loop over a sparse map does not notice the end
PROCESS_NBYTES = 1 << 30  # address space of the process that unpacks
START_S = 30.0  # time limit for unpacking, plus
NBYTES_PER_S = 4 << 20  # the archive's size at this rate
REASON_NBYTES = 1000


class ArchiveRefused(Exception):
    """`str(error)` is one line with the reason."""


def unpack_apart(archive: Path, into: Path) -> None:
    """Unpack into the new directory `into`, in a process of its own. Raises ArchiveRefused, after removing
    the directory."""
    seconds = START_S + archive.stat().st_size / NBYTES_PER_S
    command = [sys.executable, "-I", __file__, str(archive), str(into)]
    try:
        ended = subprocess.run(
            command, timeout=seconds, capture_output=True, stdin=subprocess.DEVNULL, check=False
        )
    except subprocess.TimeoutExpired:
        shutil.rmtree(into, ignore_errors=True)
        raise ArchiveRefused(f"{archive.name} was not unpacked within {seconds:.0f} s") from None
    if ended.returncode:
        shutil.rmtree(into, ignore_errors=True)
        raise ArchiveRefused(_reason(archive, ended))


def _reason(archive: Path, ended: "subprocess.CompletedProcess[bytes]") -> str:
    if ended.returncode == 1 and ended.stdout:
        return ended.stdout.decode(errors="replace").strip()
    return f"{archive.name} cannot be unpacked: the process ended with status {ended.returncode}"


def main(archive: str, into: str) -> int:
    resource.setrlimit(resource.RLIMIT_AS, (PROCESS_NBYTES, PROCESS_NBYTES))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    try:
        unpack(Path(archive), Path(into))
    except (ArchiveRefused, OSError) as error:
        line = " ".join(str(error).split())
        sys.stdout.buffer.write(line.encode(errors="replace")[:REASON_NBYTES])
        return 1
    return 0


def unpack(archive: Path, into: Path) -> None:
    """Unpack into the new directory `into`. Raises ArchiveRefused, after removing the directory."""
    into.mkdir(parents=True)
    try:
        with _BoundedGzip(archive, _budget(archive, into)) as stream:
            with tarfile.open(fileobj=stream, mode="r:") as tar:
                _Unpacking(into, stream).run(tar)
            stream.finish()
    except BaseException as error:
        shutil.rmtree(into, ignore_errors=True)
        # Broad: tarfile raises whatever its parser meets in malformed headers, RecursionError included
        if isinstance(error, Exception) and not isinstance(error, ArchiveRefused):
            reason = str(error) or type(error).__name__
            raise ArchiveRefused(f"{archive.name} cannot be unpacked: {reason}") from error
        raise


def _budget(archive: Path, into: Path) -> int:
    bound = archive.stat().st_size * MAX_RATIO + SLACK_NBYTES
    return min(bound, shutil.disk_usage(into).free)


class _BoundedGzip(gzip.GzipFile):
    """A stream of the unpacked bytes, read once from its start to its end. Reading beyond the budget is an
    error. Outside `content`, reads are those of headers, which have limits of their own."""

    def __init__(self, path: Path, budget_nbytes: int) -> None:
        super().__init__(path, "rb")
        self._budget_nbytes = budget_nbytes
        self._extended_nbytes = 0
        self._in_content = False
        self._reads_at_end = 0
        self.latest_header = b""

    @contextmanager
    def content(self) -> Iterator[None]:
        """Reads inside the block are those of a member's content."""
        self._in_content = True
        try:
            yield
        finally:
            self._in_content = False

    def read(self, nbytes: int | None = -1) -> bytes:
        if nbytes is None or nbytes < 0:
            raise ArchiveRefused("a header without a length")
        if not self._in_content and nbytes > tarfile.BLOCKSIZE:
            self._extended_nbytes += nbytes
            if nbytes > MAX_HEADER_NBYTES or self._extended_nbytes > MAX_HEADERS_NBYTES:
                raise ArchiveRefused("extended headers that are too long")
        self._spend(self.tell() + nbytes)
        data = super().read(nbytes)
        if not self._in_content:
            self.latest_header = data
        if nbytes and not data:
            self._reads_at_end += 1
            if self._reads_at_end > MAX_READS_AT_END:
                raise ArchiveRefused("a header that does not end")
        return data

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        if (offset, whence) == (0, os.SEEK_CUR):
            return super().seek(0, whence)  # this is how `tell` works
        if whence != os.SEEK_SET or offset < self.tell():
            raise ArchiveRefused("a header that leads backwards")
        self._spend(offset)
        return super().seek(offset, whence)

    def finish(self) -> None:
        """Read the rest, since tarfile stops before gzip's checksum, which is then verified."""
        with self.content():
            while self.read(COPY_NBYTES):
                pass

    def _spend(self, position: int) -> None:
        if position > self._budget_nbytes:
            raise ArchiveRefused("unpacks to more bytes than allowed")


class _Unpacking:
    """Links are created last, so that no file is written through them."""

    def __init__(self, root: Path, stream: _BoundedGzip) -> None:
        self._root = Path(os.path.realpath(root))
        self._stream = stream
        self._links: list[tarfile.TarInfo] = []
        self._directories = {self._root}
        self._entries = 0

    def run(self, tar: tarfile.TarFile) -> None:
        while (member := tar.next()) is not None:
            tar.members.clear()  # type: ignore[attr-defined]  # it would keep every header in memory
            self._take(tar, member)
        if self._stream.latest_header.strip(
            b"\0"
        ):  # where tarfile takes a damaged header for the end
            raise ArchiveRefused("a header is damaged")
        for member in self._links:
            self._link(member)
        for member in self._links:
            self._check(member)  # a later link can change the target of an earlier one

    def _take(self, tar: tarfile.TarFile, member: tarfile.TarInfo) -> None:
        path = self._inside(member.name, member)
        self._count()
        if member.isdir():
            self._make(path)
        elif member.issym() or member.islnk():
            self._links.append(member)
        elif member.issparse():
            raise ArchiveRefused(f"{member.name!r} is a sparse file")
        elif member.isreg():
            source = tar.extractfile(member)
            assert source is not None  # it is a regular file
            with self._stream.content():
                self._write(source, path)
        else:
            raise ArchiveRefused(f"{member.name!r} is neither file, directory nor link")

    def _count(self) -> None:
        self._entries += 1
        if self._entries > MAX_ENTRIES:
            raise ArchiveRefused(f"more than {MAX_ENTRIES} files and directories")

    def _inside(self, name: str, member: tarfile.TarInfo) -> Path:
        if len(name) > MAX_NAME_NBYTES:  # before it is split, and before it is quoted
            raise ArchiveRefused(f"a name of {len(name)} characters")
        pure = PurePosixPath(name)
        if pure.is_absolute() or ".." in pure.parts or "\0" in name:
            raise ArchiveRefused(f"{member.name!r} points outside the archive")
        if len(pure.parts) > MAX_DEPTH:
            raise ArchiveRefused(f"{name[:40]!r}… is more than {MAX_DEPTH} directories deep")
        return self._root / pure

    def _make(self, directory: Path) -> None:
        """Create the directory and those above it."""
        if directory in self._directories:
            return
        self._make(directory.parent)
        self._count()
        with suppress(FileExistsError):
            directory.mkdir()
        if not directory.is_dir():
            raise ArchiveRefused(f"{directory.name!r} is both a file and a directory")
        self._directories.add(directory)

    def _write(self, source: IO[bytes], path: Path) -> None:
        self._make(path.parent)
        with path.open("xb") as file:
            shutil.copyfileobj(source, file, COPY_NBYTES)

    def _link(self, member: tarfile.TarInfo) -> None:
        path = self._inside(member.name, member)
        if not Path(os.path.realpath(path.parent)).is_relative_to(self._root):
            raise ArchiveRefused(f"{member.name!r} points outside the archive")
        self._make(path.parent)
        if member.islnk():
            os.link(self._target(member.linkname, member), path)
            return
        if len(member.linkname) > MAX_NAME_NBYTES:
            raise ArchiveRefused(f"a link to a name of {len(member.linkname)} characters")
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


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
