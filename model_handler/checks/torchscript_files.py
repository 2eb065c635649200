"""The contents of a TorchScript archive, checked before torch opens it.

torch.jit.load makes each tensor of its storage, offset, sizes and strides without comparing them: a tensor
that is larger than its record would show other models' memory. It also calls every `__setstate__`.
"""

import re
from pathlib import Path
from typing import Any

import numpy as np

from model_handler.checks import pickles
from model_handler.checks.archives import Archive
from model_handler.checks.pickles import DTYPES, Object, Storage, TensorView
from model_handler.errors import ModelLoadFailed

# Other members would make torch read the archive as one of its older formats
_MEMBERS = re.compile(
    r"(data|constants|traced_inputs)(\.pkl|/\d+)|version|byteorder|\.format_version"
    r"|\.storage_alignment|\.data/(serialization_id|version)|code/.+\.py(\.debug_pkl)?|extra/.+"
)
_MAX_NBYTES = 32 << 20  # of one source file or pickle
_MAX_BRACKETS = 200  # torch parses and frees nested expressions recursively
_DEEP = re.compile(rb"[(\[]|[)\]]")


def check(path: Path) -> list[Object]:
    """Check everything but the code's operators. Returns the objects of the archive's classes: its modules.

    Raises ModelLoadFailed.
    """
    archive = Archive(path)
    _check_members(archive)
    for kind in ("constants", "traced_inputs"):
        if f"{kind}.pkl" in archive.members and _objects(archive, kind):
            raise ModelLoadFailed(f"{path.name} has objects among its {kind}")
    return _objects(archive, "data")


def _check_members(archive: Archive) -> None:
    for name in archive.members:
        title = f"{archive.title}: {name}"
        if not _MEMBERS.fullmatch(name):
            raise ModelLoadFailed(f"{title} is an unexpected member")
        if name.endswith(".py"):
            _check_source(archive.read(name, _MAX_NBYTES), title)
        elif name.endswith(".debug_pkl"):
            _check_positions(archive.read(name, _MAX_NBYTES), title)
    if "byteorder" in archive.members and archive.read("byteorder", 100) != b"little":
        raise ModelLoadFailed(f"{archive.title} was not written on a little-endian machine")


def _objects(archive: Archive, kind: str) -> list[Object]:
    """The objects in one of the archive's pickles, whose tensors are checked."""
    title = f"{archive.title}: {kind}.pkl"
    if f"{kind}.pkl" not in archive.members:
        raise ModelLoadFailed(f"{title} is missing")
    found = []
    for value in pickles.distinct(pickles.values(archive.read(f"{kind}.pkl", _MAX_NBYTES), title)):
        if isinstance(value, TensorView):
            _check_tensor(value, archive.title)
            _check_storage(value.storage, archive, kind)
        elif isinstance(value, Object):
            found.append(value)
    return found


def _check_source(source: bytes, title: str) -> None:
    """Identifiers have one spelling in TorchScript, so that a text without this one has no such method."""
    if b"__setstate__" in source:
        raise ModelLoadFailed(
            f"{title} runs code while it is loaded (__setstate__), as quantized modules do"
        )
    depth = 0
    for bracket in _DEEP.findall(source):
        depth += 1 if bracket in b"([" else -1
        if depth > _MAX_BRACKETS:
            raise ModelLoadFailed(f"{title} has an expression that is nested too deep")
        depth = max(depth, 0)


def _check_tensor(tensor: TensorView, title: str) -> None:
    if len(tensor.sizes) != len(tensor.strides) or len(tensor.sizes) > 64:
        raise ModelLoadFailed(f"{title} has a tensor with other strides than sizes")
    if tensor.offset < 0 or min((*tensor.sizes, *tensor.strides), default=0) < 0:
        raise ModelLoadFailed(f"{title} has a tensor with negative sizes, strides or offset")
    last = tensor.offset
    if 0 not in tensor.sizes:
        last += 1 + sum(
            (n - 1) * step for n, step in zip(tensor.sizes, tensor.strides, strict=True)
        )
    if last > tensor.storage.count or max((*tensor.sizes, *tensor.strides), default=0) >> 48:
        raise ModelLoadFailed(f"{title} has a tensor that is larger than its storage")


def _check_storage(storage: Storage, archive: Archive, kind: str) -> None:
    member = archive.members.get(f"{kind}/{storage.key}")
    stored = 0 if member is None else member.file_size
    if kind == "traced_inputs" and stored == 0:
        return  # torch writes no data for them, and never reads it
    if stored != storage.count * DTYPES[storage.dtype] or (member is None and storage.count):
        raise ModelLoadFailed(
            f"{archive.title}: storage {storage.key} has {storage.count} elements of {storage.dtype},"
            f" but its record has {stored} bytes"
        )
    if storage.dtype == "BoolStorage" and member is not None:
        content = archive.read(f"{kind}/{storage.key}", member.file_size)
        if content and np.frombuffer(content, np.uint8).max() > 1:
            raise ModelLoadFailed(f"{archive.title}: a storage of booleans holds other values")


def _check_positions(content: bytes, title: str) -> None:
    """The source positions that torch shows in error messages: it uses their indices unchecked."""
    table = pickles.plain(content, title)
    texts: list[Any] = []
    numbers: list[Any] = []
    indices: list[Any] = []
    try:
        match table:
            case ("FORMAT_WITH_STRING_TABLE", tuple(found), tuple(positions)):
                for place, ((pieces, file, line), begin, end), tag in positions:
                    indices += (*pieces, file)
                    numbers += (place, line, begin, end, tag)
                texts += found
            case tuple(positions):
                for place, ((text, file, line), begin, end), tag in positions:
                    texts += (text, file or "")
                    numbers += (place, line, begin, end, tag)
            case _:
                raise ValueError("unknown form")
    except (TypeError, ValueError) as error:
        raise ModelLoadFailed(f"{title} has malformed positions: {error}") from None
    are_typed = {*map(type, texts)} <= {str} and {*map(type, numbers), *map(type, indices)} <= {int}
    if not are_typed or min(indices, default=0) < 0 or max(indices, default=-1) >= len(texts):
        raise ModelLoadFailed(f"{title} has malformed positions")
