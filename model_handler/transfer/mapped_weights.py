"""The tensors of a safetensors file as views of the mapped file: a page is read on first use only.

safetensors' own reader, which transformers uses for the first model of a structure, leaks two small objects
per tensor (safetensors 0.8 with PyTorch 2.13). Over thousands of loads that adds up, hence this reader.
"""

from collections.abc import Container, Iterator
from pathlib import Path
from typing import Any

import torch

from model_handler.artifacts import weights

DTYPES = {
    "F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16,
    "F8_E4M3": torch.float8_e4m3fn, "F8_E5M2": torch.float8_e5m2, "C64": torch.complex64,
    "I64": torch.int64, "I32": torch.int32, "I16": torch.int16, "I8": torch.int8,
    "U64": torch.uint64, "U32": torch.uint32, "U16": torch.uint16, "U8": torch.uint8,
    "BOOL": torch.bool,
}  # fmt: skip


def tensors(file: Path, names: Container[str]) -> Iterator[tuple[str, torch.Tensor]]:
    """The tensors in `names`. Writing to a view makes its pages private; the file does not change.

    Raises ModelLoadFailed for a damaged file.
    """
    described, start = weights.header(file), weights.data_start(file)
    storage = torch.UntypedStorage.from_file(str(file), False, file.stat().st_size)
    for name, tensor in described.items():
        if name in names:
            yield name, _view(storage, start, tensor)


def places(file: Path) -> Iterator[tuple[str, int, torch.dtype]]:
    """Name, offset in the file and dtype of each tensor. Raises ModelLoadFailed for a damaged file."""
    described, start = weights.header(file), weights.data_start(file)
    for name, tensor in described.items():
        yield name, start + tensor["data_offsets"][0], DTYPES[tensor["dtype"]]


def _view(storage: Any, start: int, tensor: dict[str, Any]) -> torch.Tensor:
    dtype: torch.dtype = DTYPES[tensor["dtype"]]
    begin, end = (start + offset for offset in tensor["data_offsets"])
    if begin % dtype.itemsize == 0:
        return _placed(storage, dtype, begin // dtype.itemsize, tensor["shape"])
    octets = _placed(storage, torch.uint8, begin, [end - begin])
    return octets.clone().view(dtype).reshape(tensor["shape"])


def _placed(storage: Any, dtype: torch.dtype, at: int, shape: list[int]) -> torch.Tensor:
    """`at`: offset in items."""
    view: torch.Tensor = torch.empty(0, dtype=dtype).set_(storage, at, shape)  # type: ignore[call-overload]
    return view
