"""A digest of what decides how an artifact behaves when it is opened, without the numbers in its weights.

Whole: every file up to 32 MiB, and the header of safetensors files, so that fine-tuned models that share
structure, config and tokenizer have one digest. Of a zip of PyTorch (.bin): its directory, with sizes and
checksums, and its pickle. Of other large files: both ends, and the identity of the file (inode, time of the
last change). A copy of such a file counts as new content, which costs time and nothing else: a digest says
that this content was opened before, not that it can be trusted.

Everything here blocks on the file system, and runs in a process that may end.
"""

import functools
import hashlib
import json
import os
import stat
import struct
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from model_handler.artifacts.weights import MAX_HEADER_NBYTES

WHOLE_NBYTES = 32 << 20
END_NBYTES = 1 << 20
DIGEST_NBYTES = 16
REMEMBERED = 4096  # files: those of a model that is loaded again are not read again

Identity = tuple[int, int, int, int, int]


def digest(root: Path, *how: str) -> str:
    """`how`: what else decides how the artifact is opened, such as its task."""
    total = hashlib.blake2b(json.dumps(how).encode(), digest_size=DIGEST_NBYTES)
    for name, file in sorted(_files(root)):
        total.update(json.dumps([name, _described(file)]).encode())
    return total.hexdigest()


def _files(root: Path) -> Iterator[tuple[str, str]]:
    """Relative and full path of every entry that is not a directory; links to directories are entries."""
    for directory, subdirectories, names in os.walk(root):
        links = [name for name in subdirectories if Path(directory, name).is_symlink()]
        for name in (*names, *links):
            file = os.path.join(directory, name)
            yield os.path.relpath(file, root), file


def _described(file: str) -> list[object]:
    try:
        found = os.stat(file)  # noqa: PTH116 - follows links, as opening does
    except OSError:
        return ["missing"]
    if not stat.S_ISREG(found.st_mode):
        return ["no file", stat.S_IFMT(found.st_mode)]
    identity = (found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns)
    return [found.st_size, _file_digest(file, identity)]


@functools.lru_cache(REMEMBERED)
def _file_digest(file: str, identity: Identity) -> str:
    nbytes = identity[2]
    # Not blocking: another kind of file may have taken the name meanwhile
    descriptor = os.open(file, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    with os.fdopen(descriptor, "rb") as stream:
        if nbytes <= WHOLE_NBYTES and not file.endswith(".safetensors"):
            return hashlib.file_digest(stream, "blake2b").hexdigest()
        if (header := _header(file, stream)) is not None:
            return hashlib.blake2b(header).hexdigest()
        if file.endswith(".bin") and (pickled := _pickled(stream)) is not None:
            return hashlib.blake2b(pickled).hexdigest()
        return _of_ends(stream, identity)


def _header(file: str, stream: BinaryIO) -> bytes | None:
    """The header of a safetensors file with its length; None for other files."""
    if not file.endswith(".safetensors"):
        return None
    length = stream.read(8)
    nbytes = struct.unpack("<Q", length)[0] if len(length) == 8 else 0
    return length + stream.read(nbytes) if nbytes <= MAX_HEADER_NBYTES else None


def _pickled(stream: BinaryIO) -> bytes | None:
    """The names, sizes and checksums of a zip's members, and its pickles; None if it is no such zip."""
    try:
        with zipfile.ZipFile(stream) as archive:
            members = archive.infolist()
            pickles = [each for each in members if each.filename.endswith(".pkl")]
            if not pickles or sum(each.file_size for each in pickles) > WHOLE_NBYTES:
                return None
            facts = [[each.filename, each.file_size, each.CRC] for each in members]
            return json.dumps(facts).encode() + b"".join(map(archive.read, pickles))
    except (zipfile.BadZipFile, NotImplementedError, RuntimeError, ValueError, OSError):
        return None


def _of_ends(stream: BinaryIO, identity: Identity) -> str:
    ends = hashlib.blake2b(json.dumps(identity).encode())
    stream.seek(0)
    ends.update(stream.read(END_NBYTES))
    stream.seek(max(0, identity[2] - END_NBYTES))
    ends.update(stream.read(END_NBYTES))
    return ends.hexdigest()
