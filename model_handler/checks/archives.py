"""Zip archives of which every reader sees the same members.

Zip files can be written so that two readers find different members in them. Here the layout is the one that
torch writes: local header and data of each member in turn, then the central directory, then nothing else.
"""

import struct
import zipfile
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import BinaryIO

from model_handler.errors import ModelLoadFailed

_LOCAL = struct.Struct("<4s5H3I2H")
_END = struct.Struct("<4s4H2IH")
_END64 = struct.Struct("<4sQ2H2I4Q")
_LOCATOR = struct.Struct("<4sIQI")
_CENTRAL_NBYTES = 46  # a header of the central directory without its name, extra fields and comment
_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
_ENCRYPTED = 0x1 | 0x40 | 0x2000


class Archive:
    """An open archive. `members`: by the name below the archive's only folder."""

    def __init__(self, path: Path) -> None:
        """Raises ModelLoadFailed for an archive that another reader might read differently."""
        self.title = path.name
        with path.open("rb") as stream:
            try:
                with zipfile.ZipFile(stream) as archive:
                    found, begin = archive.infolist(), archive.start_dir
                _check_end(stream, found, begin)
                _check_names(found)
                self.starts = _starts(stream, found, begin)
            except (ValueError, struct.error, zipfile.BadZipFile, NotImplementedError) as error:
                raise ModelLoadFailed(f"{path.name} is not a sound archive: {error}") from error
        self._path = path
        folder = found[0].filename.partition("/")[0] + "/"
        if any(not member.filename.startswith(folder) for member in found):
            raise ModelLoadFailed(f"{path.name} has members outside its folder {folder}")
        self.members = {member.filename.removeprefix(folder): member for member in found}

    def read(self, name: str, limit: int) -> bytes:
        """The content of a member of at most `limit` bytes."""
        member = self.members[name]
        if member.file_size > limit:
            raise ModelLoadFailed(f"{self.title}: {name} is larger than {limit} bytes")
        with self._path.open("rb") as stream:
            stream.seek(self.starts[member.filename])
            raw = stream.read(member.compress_size)
        content = raw if member.compress_type == zipfile.ZIP_STORED else _inflated(raw, member)
        if len(content) != member.file_size:
            raise ModelLoadFailed(f"{self.title}: {name} does not have its size")
        return content


def _inflated(raw: bytes, member: zipfile.ZipInfo) -> bytes:
    stream = zlib.decompressobj(-15)
    try:
        content = stream.decompress(raw, member.file_size + 1)
    except zlib.error as error:
        raise ModelLoadFailed(f"{member.filename} cannot be decompressed") from error
    if not stream.eof or stream.unused_data:
        raise ModelLoadFailed(f"{member.filename} does not have its size")
    return content


def _check_end(stream: BinaryIO, found: Sequence[zipfile.ZipInfo], begin: int) -> None:
    """Compare the records at the end of the file with the members that were found."""
    length = stream.seek(0, 2)
    stream.seek(max(0, length - _END.size - _LOCATOR.size - _END64.size))
    tail = stream.read()
    mark, disk, first_disk, here, total, nbytes, offset, comment = _END.unpack(tail[-_END.size :])
    end = length - _END.size
    if mark != b"PK\5\6" or disk or first_disk or comment:
        raise ValueError("it does not end with its directory")
    locator = tail[-_END.size - _LOCATOR.size : -_END.size]
    if locator[:4] == b"PK\6\7":
        end = length - len(tail)
        at = _LOCATOR.unpack(locator)[2]
        mark, _, _, _, _, _, here, total, nbytes, offset = _END64.unpack(tail[: _END64.size])
        if at != end or mark != b"PK\6\6":
            raise ValueError("it has two directories")
    listed = sum(
        _CENTRAL_NBYTES + len(each.orig_filename.encode()) + len(each.extra) + len(each.comment)
        for each in found
    )
    if not here == total == len(found) or not total:
        raise ValueError("its directory has another number of members")
    if not (offset == begin and nbytes == listed and offset + nbytes == end):
        raise ValueError("its directory does not have its size")


def _check_names(found: Sequence[zipfile.ZipInfo]) -> None:
    names = {member.filename.lower() for member in found}
    if len(names) != len(found):
        raise ValueError("it has two members of the same name")
    for member in found:
        name = member.orig_filename
        if name != member.filename or not (name.isascii() and name.isprintable()):
            raise ValueError("a member's name is not plain text")
        if member.compress_type not in _METHODS or member.flag_bits & _ENCRYPTED:
            raise ValueError(f"{name} is encrypted or compressed in an unknown way")
        stored = member.compress_type == zipfile.ZIP_STORED
        if stored and member.compress_size != member.file_size:
            raise ValueError(f"{name} does not have its size")


def _starts(stream: BinaryIO, found: Sequence[zipfile.ZipInfo], begin: int) -> dict[str, int]:
    """Where each member's data begins. Raises ValueError if members overlap or headers disagree."""
    starts: dict[str, int] = {}
    end = 0
    for member in sorted(found, key=lambda each: each.header_offset):
        if member.header_offset < end or (not starts and member.header_offset):
            raise ValueError(
                f"{member.filename} overlaps another member, or something is before it"
            )
        stream.seek(member.header_offset)
        header = _LOCAL.unpack(stream.read(_LOCAL.size))
        name = stream.read(header[9])
        if header[0] != b"PK\3\4" or header[3] != member.compress_type:
            raise ValueError(f"{member.filename} has another header than in the directory")
        if name != member.orig_filename.encode():
            raise ValueError(f"{member.filename} has another name than in the directory")
        start = member.header_offset + _LOCAL.size + header[9] + header[10]
        starts[member.filename] = start
        end = start + member.compress_size
    if end > begin:
        raise ValueError("a member overlaps the directory")
    return starts
