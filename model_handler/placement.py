"""A model's tensors to where they are used, and how many bytes they hold there."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch

from model_handler.pages import FilePages
from model_handler.upload import Piece, Uploader


def place(
    model: Any,
    dtype: torch.dtype,
    device: torch.device,
    views: FilePages,
    uploader: Uploader | None,
) -> None:
    """Every tensor on the device, weights in `dtype`, without a second copy of more than one of them.

    Buffers that are no part of the checkpoint (rotary frequencies) keep their precision. What is a view
    of a file comes through the uploader, where there is one.
    """
    precise = _precise(model)
    targets = [
        (tensor, dtype if _casts(tensor, persistent, precise(name)) else tensor.dtype)
        for name, tensor, persistent in named_tensors(model)
    ]
    as_stored = [tensor for tensor, target in targets if tensor.dtype is target]
    uploaded = {} if uploader is None else _uploaded(as_stored, views, uploader)
    for tensor, target in targets:
        there = uploaded.get(id(tensor))
        tensor.data = tensor.data.to(device, target) if there is None else there
    model.config.dtype = dtype


def _casts(tensor: torch.Tensor, persistent: bool, precise: bool) -> bool:
    return persistent and tensor.is_floating_point() and not precise


def _uploaded(
    tensors: Sequence[torch.Tensor], views: FilePages, uploader: Uploader
) -> dict[int, torch.Tensor]:
    """On the device, of these tensors those that are views of files, by their identity."""
    found = [(tensor, origin) for tensor in tensors if (origin := views.place(tensor.data))]
    pieces = [Piece(*origin, nbytes(tensor)) for tensor, origin in found]
    octets = uploader.upload(pieces) if pieces else []
    return {
        id(tensor): each.view(tensor.dtype).view(tensor.shape)
        for (tensor, _), each in zip(found, octets, strict=True)
    }


def named_tensors(model: Any) -> Iterator[tuple[str, torch.Tensor, bool]]:
    """Name, tensor, and whether the checkpoint holds it. Tied weights come once."""
    kept = model.state_dict().keys()
    for name, parameter in model.named_parameters():
        yield name, parameter, True
    for name, buffer in model.named_buffers():
        yield name, buffer, name in kept


def tensors(model: Any) -> Iterator[torch.Tensor]:
    """Each stretch of memory once, tied or not."""
    seen: set[tuple[int, int]] = set()
    for _, tensor, _ in named_tensors(model):
        stretch = tensor.data_ptr(), nbytes(tensor)
        if stretch not in seen:
            seen.add(stretch)
            yield tensor


def nbytes(tensor: torch.Tensor) -> int:
    return tensor.numel() * tensor.element_size()


def _precise(model: Any) -> Callable[[str], bool]:
    """A predicate on names: modules that their authors want in float32 whatever the rest is in."""
    lenient = getattr(model, "_keep_in_fp32_modules", None) or ()
    strict = getattr(model, "_keep_in_fp32_modules_strict", None) or ()
    parts = {*lenient, *strict}
    return lambda name: any(part in name.split(".") or part in name for part in parts)
