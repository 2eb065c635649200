"""The file range from which each tensor of a model was read."""

import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from model_handler.transfer import mapped_weights
from model_handler.transfer.file_pages import FilePages


@dataclass(frozen=True, slots=True)
class TensorOrigin:
    """`path`: resolved. `dtype`: as stored in the file."""

    path: str
    offset: int
    dtype: torch.dtype


Origins = dict[int, TensorOrigin]  # by the tensor's id


def by_name(model: Any, files: Iterable[Path]) -> Origins:
    """Match by name: for safetensors files whose tensors the model holds under the same names."""
    state = model.state_dict(keep_vars=True)
    return {
        id(state[name]): TensorOrigin(os.path.realpath(file), offset, dtype)
        for file in files
        for name, offset, dtype in mapped_weights.places(file)
        if name in state
    }


def by_pages(model: Any, files: Iterable[Path]) -> Origins:
    """Match by memory, for any file: the tensors that are unmodified views of a mapped file."""
    pages = FilePages(files)
    return {
        id(tensor): TensorOrigin(*place, tensor.dtype)
        for tensor in (*model.parameters(), *model.buffers())
        if (place := pages.place(tensor.data))
    }
