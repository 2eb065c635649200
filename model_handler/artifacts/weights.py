"""How many bytes an artifact's weights will take, computed from file headers before weights are read.

Format: https://huggingface.co/docs/safetensors (8 bytes length, JSON header, then the data).
"""

import json
import math
import struct
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from model_handler.artifacts import documents
from model_handler.artifacts.stamps import Stamp
from model_handler.errors import ModelLoadFailed

MAX_TENSORS = 200_000  # of one file: the largest public models have 90,000 in all
MAX_HEADER_NBYTES = 32 << 20
MAX_PICKLE_NBYTES = 64 << 20  # of the pickle in a .bin file, which has the names and shapes
ITEM_NBYTES = {
    "F64": 8, "F32": 4, "F16": 2, "BF16": 2, "F8_E4M3": 1, "F8_E5M2": 1, "C64": 8,
    "I64": 8, "I32": 4, "I16": 2, "I8": 1, "U64": 8, "U32": 4, "U16": 2, "U8": 1, "BOOL": 1,
}  # fmt: skip
STORAGE_NBYTES = {b"DoubleStorage": 8, b"FloatStorage": 4, b"HalfStorage": 2, b"BFloat16Storage": 2}
FLOAT_DTYPES = {"float64": "F64", "float32": "F32", "float16": "F16", "bfloat16": "BF16"}


Tensor = dict[str, Any]  # dtype, shape, data_offsets


def nbytes(files: list[Path], dtype: str | None) -> int:
    """Bytes after floats are cast to `dtype` (None: as stored). Raises ModelLoadFailed."""
    item_nbytes = ITEM_NBYTES[FLOAT_DTYPES[dtype]] if dtype else None
    return sum(_file_nbytes(file, item_nbytes) for file in files)


def _file_nbytes(file: Path, float_nbytes: int | None) -> int:
    if file.suffix != ".safetensors":
        return _pickle_nbytes(file, float_nbytes)
    tensors = header(file).values()
    return sum(_tensor_nbytes(tensor, float_nbytes) for tensor in tensors)


def _pickle_nbytes(file: Path, float_nbytes: int | None) -> int:
    """An upper bound: the file's size, as if all of it were floats. The pickle is never executed.

    The names of PyTorch's storage classes appear in it as text. The smallest stored item among them gives
    the largest growth that a cast can cause.
    """
    size = file.stat().st_size
    if float_nbytes is None or not zipfile.is_zipfile(file):
        return size
    with zipfile.ZipFile(file) as archive:
        pickles = [each for each in archive.infolist() if each.filename.endswith("data.pkl")]
        if sum(each.file_size for each in pickles) > MAX_PICKLE_NBYTES:
            raise ModelLoadFailed(
                f"{file.name} has a pickle of more than {MAX_PICKLE_NBYTES} bytes"
            )
        text = b"".join(archive.read(each) for each in pickles)
    stored = [nbytes for name, nbytes in STORAGE_NBYTES.items() if name in text]
    return size * max(1, float_nbytes // min(stored, default=float_nbytes))


def _tensor_nbytes(tensor: Tensor, float_nbytes: int | None) -> int:
    stored: str = tensor["dtype"]
    shape: list[int] = tensor["shape"]
    item = ITEM_NBYTES[stored]
    if float_nbytes is not None and "F" in stored:
        item = float_nbytes
    return item * math.prod(shape)


# ---- which files hold the weights ----

WHOLE = ("model.safetensors", "pytorch_model.bin")
_MISSING = "no weights: none of model.safetensors, pytorch_model.bin, and neither with .index.json"


def files(root: Path) -> list[Path]:
    """The weight files that transformers reads, one or several shards.

    Raises ModelLoadFailed if there are none, or if an index does not fit its shards.
    """
    for name in WHOLE:
        if (root / name).is_file():
            return [root / name]
        if (index := root / f"{name}.index.json").is_file():
            return _shards(index, name.rpartition(".")[2])
    raise ModelLoadFailed(_MISSING)


def _shards(index: Path, suffix: str) -> list[Path]:
    weight_map = documents.read(index, MAX_HEADER_NBYTES).get("weight_map")
    if not isinstance(weight_map, dict) or not weight_map:
        raise ModelLoadFailed(f"{index.name} has no weight_map")
    by_shard: dict[str, list[str]] = {}
    for tensor, name in weight_map.items():
        if not isinstance(name, str) or Path(name).name != name or not name.endswith(f".{suffix}"):
            raise ModelLoadFailed(
                f"{index.name} names a shard that is not a .{suffix} file beside it"
            )
        by_shard.setdefault(name, []).append(tensor)
    shards = [index.parent / name for name in sorted(by_shard)]
    for shard in shards:
        if not shard.is_file():
            raise ModelLoadFailed(f"{index.name} names {shard.name}, which is missing")
    if suffix == "safetensors":
        _check_shards(index, {shard: by_shard[shard.name] for shard in shards})
    return shards


def _check_shards(index: Path, wanted: dict[Path, list[str]]) -> None:
    """Each tensor is in the shard that the index names, and in no other."""
    seen: set[str] = set()
    for shard, names in wanted.items():
        held = header(shard).keys()
        if missing := [name for name in names if name not in held]:
            raise ModelLoadFailed(
                f"{shard.name} lacks {missing[0][:200]}, which {index.name} names"
            )
        if not seen.isdisjoint(held):
            twice = min(seen & held)[:200]
            raise ModelLoadFailed(f"{twice} is in {shard.name} and in another file of {index.name}")
        seen.update(held)


@dataclass(frozen=True, slots=True)
class Extent:
    """How many tensors the files have, and the most items of one tensor."""

    tensors: int
    items: int


def extent(files: Sequence[Path]) -> Extent | None:
    """None if the files are not safetensors, which alone say so without being loaded."""
    if any(file.suffix != ".safetensors" for file in files):
        return None
    shapes = [tensor["shape"] for file in files for tensor in header(file).values()]
    return Extent(len(shapes), max(map(math.prod, shapes), default=0))


# ---- headers of safetensors files ----


def header(file: Path) -> dict[str, Tensor]:
    """Tensor name → dtype, shape, data_offsets; not to be changed.

    Raises ModelLoadFailed for a damaged file. Accepts what the safetensors library accepts, but no name
    twice: tensors fill the file without gaps and overlaps.
    """
    return _read(file, Stamp.of(str(file)))[0]


def data_start(file: Path) -> int:
    """The offset in the file at which the tensors' bytes begin. Raises as `header`."""
    return _read(file, Stamp.of(str(file)))[1]


@lru_cache(maxsize=16)
def _read(file: Path, stamp: Stamp) -> tuple[dict[str, Tensor], int]:
    try:
        text = _header_text(file)
        tensors = _parsed(text, file.name)
        _check_layout(tensors, stamp.nbytes - 8 - len(text))
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        reason = str(error)[:300]
        raise ModelLoadFailed(f"{file.name} is not a valid safetensors file: {reason}") from error
    return tensors, 8 + len(text)


def _header_text(file: Path) -> bytes:
    with file.open("rb") as stream:
        prefix = stream.read(8)
        length = struct.unpack("<Q", prefix)[0] if len(prefix) == 8 else 0
        if not 2 <= length <= MAX_HEADER_NBYTES:
            raise ValueError(f"header of {length} bytes")
        text = stream.read(length)
    if len(text) < length:
        raise ValueError(f"header ends after {len(text)} of {length} bytes")
    return text


def _parsed(text: bytes, name: str) -> dict[str, Tensor]:
    documents.check(text, f"the header of {name}", values=8 * MAX_TENSORS)
    tensors: dict[str, Any] = json.loads(text.decode(), object_pairs_hook=_unique)
    metadata = tensors.pop("__metadata__", None) or {}
    if not all(isinstance(value, str) for value in metadata.values()):
        raise ValueError("__metadata__ holds something other than text")
    "".join(
        tensors
    ).encode()  # names with half a surrogate pair: UnicodeEncodeError is a ValueError
    return tensors


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a name occurs twice")
    return found


def _check_layout(tensors: dict[str, Tensor], data_nbytes: int) -> None:
    """The tensors in the order of the file: each begins where the one before ends, the last ends the file."""
    ranges = sorted(_checked(name, tensor) for name, tensor in tensors.items())
    end = 0
    for start, stop, name in ranges:
        if start != end:
            raise ValueError(f"tensor {name} begins at {start}, but the one before ends at {end}")
        end = stop
    if end != data_nbytes:
        raise ValueError(f"the tensors end at {end}, but the file has data of {data_nbytes} bytes")


def _checked(name: str, tensor: Tensor) -> tuple[int, int, str]:
    shape, (start, stop) = tensor["shape"], tensor["data_offsets"]
    if not _whole([*shape, start, stop]) or math.prod(max(each, 1) for each in shape) >= 1 << 60:
        raise ValueError(f"tensor {name} has an invalid shape or position")
    if tensor["dtype"] not in ITEM_NBYTES:
        raise ValueError(f"tensor {name} has the unknown dtype {tensor['dtype']}")
    if stop - start != _tensor_nbytes(tensor, None):
        raise ValueError(f"tensor {name} has the wrong number of bytes for its shape")
    return start, stop, name


def _whole(numbers: Sequence[Any]) -> bool:
    """Whether all are integers from 0 up; True and 1.0 are none."""
    return all(type(each) is int and each >= 0 for each in numbers)
