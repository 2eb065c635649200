"""Bounds what a model's configuration creates beyond the tensors in its files.

transformers builds modules without memory first, then fills them from the files, then allocates and computes
what the files do not have. Both the first and the last step follow config.json alone, however large its
numbers are.
"""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
import transformers
from torch.nn.modules.module import register_module_parameter_registration_hook

from model_handler.artifacts import weights
from model_handler.errors import ModelLoadFailed
from model_handler.transfer import placement

# Masks, positions, frequencies and the poolers of encoders: a hundredth of most models, but more of tiny ones
COMPUTED_NBYTES = 64 << 20
# Each parameter is registered when it is built and when it is filled, and tied ones several times
REGISTRATIONS, MORE_REGISTRATIONS = 8, 2000
# Tied embeddings are built up to four times, in a data type up to four times as large as the stored one
BUILT = 16


@contextmanager
def limited(files: list[Path]) -> Iterator[None]:
    """Limit what from_pretrained creates in the block to what fits the weight files.

    It raises ModelLoadFailed before more memory or time is spent. Only one thread of the process may be in
    such a block, because it patches transformers.
    """
    base, name = transformers.PreTrainedModel, "_move_missing_keys_from_meta_to_device"
    allocate = getattr(base, name)
    stored_nbytes = sum(file.stat().st_size for file in files)

    def checked(model: Any, missing: Any, *args: Any, **kwargs: Any) -> Any:
        _check(model, missing, stored_nbytes + COMPUTED_NBYTES)
        return allocate(model, missing, *args, **kwargs)

    setattr(base, name, checked)
    registrations = register_module_parameter_registration_hook(_Count(files, stored_nbytes))
    try:
        yield
    finally:
        registrations.remove()
        setattr(base, name, allocate)


class _Count:
    """Counts parameters that this thread registers and, of those without memory yet, their bytes.

    Raises ModelLoadFailed beyond the limits. A pickle can hold a tensor that is larger than its file.
    """

    def __init__(self, files: list[Path], stored_nbytes: int) -> None:
        extent = weights.extent(files)
        self._tensors = extent.tensors if extent else weights.MAX_TENSORS
        self._left = REGISTRATIONS * self._tensors + MORE_REGISTRATIONS
        self._nbytes_left = BUILT * (stored_nbytes + COMPUTED_NBYTES)
        self._thread = threading.get_ident()

    def __call__(self, module: torch.nn.Module, name: str, parameter: Any) -> None:
        if threading.get_ident() != self._thread:
            return
        self._left -= 1
        if isinstance(parameter, torch.Tensor) and parameter.is_meta:
            self._nbytes_left -= placement.nbytes(parameter)
        if self._nbytes_left < 0:
            raise ModelLoadFailed(
                f"config.json describes a model many times as large as its files: {name} of shape"
                f" {tuple(parameter.shape)}"
            )
        if self._left < 0:
            raise ModelLoadFailed(
                f"config.json describes a model with many more tensors than the {self._tensors} in the files"
            )


def _check(model: Any, missing: Any, limit: int) -> None:
    """`missing`: names of tensors that the files lack, or have in another shape; tied ones take no memory."""
    names = set(missing) - set(model.all_tied_weights_keys)
    created = {name: model.get_parameter_or_buffer(name) for name in names}
    created |= dict(model.named_non_persistent_buffers())
    sizes = {name: placement.nbytes(tensor) for name, tensor in created.items()}
    if (total := sum(sizes.values())) > limit:
        largest = max(sizes, key=lambda name: sizes[name])
        raise ModelLoadFailed(
            f"config.json asks for {total} bytes of tensors that are not in the files, most of them for"
            f" {largest} of shape {tuple(created[largest].shape)}"
        )
