"""Move a model's tensors to the device that uses them, and count their bytes."""

from collections.abc import Callable, Hashable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch

from model_handler.artifacts.stamps import Stamps
from model_handler.transfer.block import Block
from model_handler.transfer.layout import Cast, Piece
from model_handler.transfer.origins import Origins, TensorOrigin
from model_handler.transfer.upload import Uploader

Targets = Sequence[tuple[torch.Tensor, torch.dtype]]


def targets(model: Any, dtype: torch.dtype) -> list[tuple[torch.Tensor, torch.dtype]]:
    """Each tensor, and the dtype it has when the model runs in `dtype`.

    Buffers that are not part of the checkpoint (rotary frequencies) keep their dtype.
    """
    precise = _precise(model)
    return [
        (tensor, dtype if _casts(tensor, persistent, precise(name)) else tensor.dtype)
        for name, tensor, persistent in named_tensors(model)
    ]


def convert(targets: Targets, device: torch.device) -> None:
    """Convert tensor by tensor: at most one of them exists twice, and none where nothing changes."""
    for tensor, dtype in targets:
        tensor.data = tensor.data.to(device, dtype)


def blockable(targets: Targets) -> bool:
    """Whether all are plain strided tensors: no quantized or sparse ones and no subclasses."""
    return all(
        type(tensor.data) is torch.Tensor
        and tensor.layout is torch.strided
        and not tensor.is_quantized
        for tensor, _ in targets
    )


def into_block(targets: Targets, origins: Origins, stamps: Stamps, uploader: Uploader) -> Block:
    """Make the tensors views of one new block on the uploader's device; shared memory is stored once.

    `stamps`: of the files in `origins`. Raises what `Uploader.fill` raises; the tensors are then unchanged.
    """
    shares: dict[Hashable, _Share] = {}
    for tensor, dtype in targets:
        key, piece = _piece(tensor, dtype, origins.get(id(tensor)))
        shares.setdefault(key, _Share(piece)).users.append((tensor, dtype))
    stored = [each for each in shares.values() if isinstance(each.piece.source, str)]
    stored.sort(key=lambda each: (str(each.piece.source), each.piece.offset))
    loose = [each for each in shares.values() if not isinstance(each.piece.source, str)]
    block = Block(_pieces(stored), _pieces(loose), stamps, uploader)
    for share, place in zip(stored + loose, block.places, strict=True):
        for tensor, dtype in share.users:
            tensor.data = block.view(place, dtype, tensor.shape)
    return block


@dataclass(slots=True)
class _Share:
    """`users`: the tensors that are views of these bytes; several if weights are tied."""

    piece: Piece
    users: list[tuple[torch.Tensor, torch.dtype]] = field(default_factory=list)


def _pieces(shares: Sequence[_Share]) -> list[Piece]:
    return [share.piece for share in shares]


def _piece(
    tensor: torch.Tensor, dtype: torch.dtype, origin: TensorOrigin | None
) -> tuple[Hashable, Piece]:
    """A key that is equal for tensors that can share a piece, and the piece."""
    if origin is None:
        octets = tensor.data.contiguous().view(-1).view(torch.uint8)
        piece = Piece(octets, 0, len(octets), _cast(tensor.dtype, dtype))
        return (octets.data_ptr(), piece.nbytes, dtype), piece
    stored_nbytes = tensor.numel() * origin.dtype.itemsize
    piece = Piece(origin.path, origin.offset, stored_nbytes, _cast(origin.dtype, dtype))
    return (origin.path, origin.offset, piece.nbytes, dtype), piece


def _cast(stored: torch.dtype, used: torch.dtype) -> Cast | None:
    return None if stored is used else (stored, used)


def _casts(tensor: torch.Tensor, persistent: bool, precise: bool) -> bool:
    return persistent and tensor.is_floating_point() and not precise


def named_tensors(model: Any) -> Iterator[tuple[str, torch.Tensor, bool]]:
    """Name, tensor, and whether the checkpoint holds it. Tied weights appear once."""
    kept = model.state_dict().keys()
    for name, parameter in model.named_parameters():
        yield name, parameter, True
    for name, buffer in model.named_buffers():
        yield name, buffer, name in kept


def tensors(model: Any) -> Iterator[torch.Tensor]:
    """The tensors, each range of memory once."""
    seen: set[tuple[int, int]] = set()
    for _, tensor, _ in named_tensors(model):
        memory = tensor.data_ptr(), nbytes(tensor)
        if memory not in seen:
            seen.add(memory)
            yield tensor


def nbytes(tensor: torch.Tensor) -> int:
    return tensor.numel() * tensor.element_size()


def _precise(model: Any) -> Callable[[str], bool]:
    """A predicate on names: whether the tensor is in a module that stays in float32 in every run dtype."""
    lenient = getattr(model, "_keep_in_fp32_modules", None) or ()
    strict = getattr(model, "_keep_in_fp32_modules_strict", None) or ()
    parts = {*lenient, *strict}
    return lambda name: any(part in name.split(".") or part in name for part in parts)
