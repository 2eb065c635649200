"""How many bytes an artifact's weights will take, computed from file headers before weights are read.

Format: https://huggingface.co/docs/safetensors (8 bytes length, JSON header, then the data).
"""

import json
import math
import struct
import zipfile
from pathlib import Path
from typing import Any

from model_handler.errors import ModelLoadFailed

MAX_HEADER_NBYTES = (
    16 << 20
)  # about 100,000 tensors; the front process, which answers /ping, parses it
ITEM_NBYTES = {
    "F64": 8, "F32": 4, "F16": 2, "BF16": 2, "F8_E4M3": 1, "F8_E5M2": 1, "C64": 8,
    "I64": 8, "I32": 4, "I16": 2, "I8": 1, "U64": 8, "U32": 4, "U16": 2, "U8": 1, "BOOL": 1,
}  # fmt: skip
STORAGE_NBYTES = {b"DoubleStorage": 8, b"FloatStorage": 4, b"HalfStorage": 2, b"BFloat16Storage": 2}
FLOAT_DTYPES = {"float64": "F64", "float32": "F32", "float16": "F16", "bfloat16": "BF16"}


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
        names = [name for name in archive.namelist() if name.endswith("data.pkl")]
        text = b"".join(archive.read(name) for name in names)
    stored = [nbytes for name, nbytes in STORAGE_NBYTES.items() if name in text]
    return size * max(1, float_nbytes // min(stored, default=float_nbytes))


def _tensor_nbytes(tensor: dict[str, Any], float_nbytes: int | None) -> int:
    stored: str = tensor["dtype"]
    shape: list[int] = tensor["shape"]
    item = ITEM_NBYTES[stored]
    if float_nbytes is not None and "F" in stored:
        item = float_nbytes
    return item * math.prod(shape)


def safetensors_files(directory: Path) -> list[Path]:
    """The safetensors files, one or several shards; empty where there are none."""
    whole = directory / "model.safetensors"
    return [whole] if whole.is_file() else sorted(directory.glob("model-*.safetensors"))


def header(file: Path) -> dict[str, dict[str, Any]]:
    """Tensor name → dtype, shape, data_offsets. Raises ModelLoadFailed for a damaged file."""
    try:
        with file.open("rb") as stream:
            (length,) = struct.unpack("<Q", stream.read(8))
            if length > MAX_HEADER_NBYTES:
                raise ValueError(f"header of {length} bytes")
            text = stream.read(length)
        if len(text) < length:
            raise ValueError(f"header ends after {len(text)} of {length} bytes")
        tensors = json.loads(text)
        tensors.pop("__metadata__", None)
        _check(tensors, file.stat().st_size - 8 - length)
    except (
        ValueError,
        struct.error,
        LookupError,
        TypeError,
        AttributeError,
        RecursionError,
    ) as error:
        raise ModelLoadFailed(f"{file.name} is not a valid safetensors file: {error}") from error
    return dict(tensors)


def _check(tensors: dict[str, dict[str, Any]], data_nbytes: int) -> None:
    for name, tensor in tensors.items():
        begin, end = tensor["data_offsets"]
        if end - begin != _tensor_nbytes(tensor, None):
            raise ValueError(f"tensor {name} has the wrong number of bytes for its shape")
        if not 0 <= begin <= end <= data_nbytes:
            raise ValueError(f"tensor {name} ends at {end} of {data_nbytes} bytes")
