"""Safe extraction of model archives (`.tar.gz`).

Invariant: nothing is written outside the destination, and no more bytes than were measured.
"""

import os
from pathlib import Path, PurePosixPath

from backports import tarfile  # the standard library has extraction filters since 3.11.4 only

_MOST_MEMBERS = 100_000


class BadArchive(Exception):
    """Not a gzipped tar file, or a member that would leave the destination."""


class ArchiveTooLarge(BadArchive):
    """The extracted files would not fit on the volume."""


def measure(path: Path, limit_nbytes: int) -> int:
    """The size of the extracted files in bytes. Checks every member. Raises BadArchive."""
    nbytes = 0
    try:
        with tarfile.open(path, "r:gz") as archive:
            for number, member in enumerate(archive):
                _check(member)
                nbytes += member.size if member.isfile() else 0
                if nbytes > limit_nbytes or number >= _MOST_MEMBERS:
                    raise ArchiveTooLarge(f"more than {limit_nbytes} bytes or too many members")
    except (tarfile.TarError, EOFError, OSError) as error:
        raise BadArchive(str(error)) from error
    return nbytes


def extract(path: Path, destination: Path) -> None:
    """Extracts into a new directory. Requires a previous `measure`. Raises BadArchive."""
    destination.mkdir(parents=True)
    try:
        with tarfile.open(path, "r:gz") as archive:
            for member in archive:
                _check(member)
                archive.extract(member, destination, filter="data")
    except (tarfile.TarError, EOFError, OSError) as error:
        raise BadArchive(str(error)) from error


def _check(member: tarfile.TarInfo) -> None:
    name = PurePosixPath(member.name)
    if _leaves(name):
        raise BadArchive(f"{member.name!r} is outside the archive")
    if member.issym() and _leaves(name.parent / member.linkname):
        raise BadArchive(f"{member.name!r} links to {member.linkname!r}, outside the archive")
    if member.islnk() and _leaves(PurePosixPath(member.linkname)):
        raise BadArchive(f"{member.name!r} links to {member.linkname!r}, outside the archive")
    if not (member.isfile() or member.isdir() or member.issym() or member.islnk()):
        raise BadArchive(f"{member.name!r} is neither file, directory nor link")


def _leaves(path: PurePosixPath) -> bool:
    return path.is_absolute() or os.path.normpath(path).split("/")[0] == ".."
