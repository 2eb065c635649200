"""Collate two or more rows into one padded batch, and split its outputs into outputs per row."""

import re
from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import torch
from torch.nn.utils.rnn import pad_sequence

# What convolutions and pooling say of audio, or of an image, that is shorter than their kernels
_TOO_SMALL = re.compile(
    r"Kernel size can't be greater than actual input|[Oo]utput size is too small|Padding size should be less"
    r"|Expected more than 1 value per channel|non-zero size|non-empty"
)
# Features whose second dimension is the length of a row
_LENGTHS = ("input_ids", "input_values", "input_features")
# Padding values by feature name; other features are padded with zeros.
_MASKED = {"p_mask": 1, "special_tokens_mask": 1}


def collate(rows: Sequence[Mapping[str, Any]], *, side: str, pad_id: int) -> dict[str, Any]:
    """One mapping whose tensors have as many rows as there are `rows`; other values become lists.

    Every input tensor has a leading dimension of 1; the second is padded on `side` where lengths differ.
    """
    values = _MASKED | {"input_ids": pad_id}
    return {key: _stack([row[key] for row in rows], side, values.get(key, 0)) for key in rows[0]}


def _stack(column: list[Any], side: str, value: int) -> Any:
    if not isinstance(column[0], torch.Tensor):
        return column
    if len({tensor.shape for tensor in column}) == 1:
        return torch.cat(column)
    rows = [tensor[0] for tensor in column]
    return pad_sequence(rows, batch_first=True, padding_value=value, padding_side=side)


def separate(outputs: Any, count: int) -> list[Any]:
    """The outputs of a batch of `count` rows, one per row. The key-value cache is dropped."""
    return [_item(outputs, index) for index in range(count)]


def _item(value: Any, index: int) -> Any:
    if isinstance(value, torch.Tensor):
        return value[index : index + 1]
    if isinstance(value, Mapping):
        kept = {key: each for key, each in value.items() if key != "past_key_values"}
        return type(value)({key: _field(each, index) for key, each in kept.items()})  # type: ignore[call-arg]
    return value[index]


def _field(value: Any, index: int) -> Any:
    """A list holds one entry per row; a tuple holds one entry per layer, each with all rows."""
    if value is None:
        return None
    if isinstance(value, tuple):
        return tuple(_field(layer, index) for layer in value)
    return _item(value, index)


def frozen(value: Any) -> Hashable:
    """A key that is equal for equal parameters."""
    if isinstance(value, Mapping):
        return tuple((key, frozen(each)) for key, each in sorted(value.items()))
    if isinstance(value, list | tuple):
        return tuple(frozen(each) for each in value)
    return value if isinstance(value, Hashable) else id(value)


def row_length(inputs: Mapping[str, Any]) -> int:
    for name in _LENGTHS:
        if isinstance(inputs.get(name), torch.Tensor):
            return int(inputs[name].shape[1])
    return 1


def is_too_small(error: Exception) -> bool:
    """Whether a model raised it because there is too little input."""
    return bool(_TOO_SMALL.search(str(error)))
