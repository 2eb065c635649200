"""The one allocation on the device of which all tensors of a model are views.

Freed, the views stay bound to it and must not be used; filled again, they are what they were before.
"""

import weakref
from collections.abc import Sequence
from typing import Any

import torch

from model_handler.artifacts.stamps import Stamps
from model_handler.handlers import Handler
from model_handler.transfer.layout import Layout, Piece, aligned, lay_out
from model_handler.transfer.upload import Uploader

GRANULE = 2 << 20  # CUDA's allocator takes whole ones from the driver
# What is in no file and is kept in main memory, to fill a block again: so much, or a share of the block
KEPT_NBYTES = 1 << 20
KEPT_SHARE = 8


class Block:
    """`stored`: pieces of files, in the order of the files, whose stamps are `stamps`. `loose`: all others.

    Filled when it is made, by the uploader's thread; raises what `Uploader.fill` raises.
    """

    def __init__(
        self, stored: Sequence[Piece], loose: Sequence[Piece], stamps: Stamps, uploader: Uploader
    ) -> None:
        limit = uploader.chunk_nbytes
        files = lay_out(stored, limit)
        rest = lay_out(loose, limit, files.end)
        self.places = files.places + rest.places
        self.nbytes = aligned(rest.end, GRANULE if uploader.device.type == "cuda" else 1)
        self.stamps = {path: stamps[path] for path in dict.fromkeys(map(_path, stored))}
        self.refillable = rest.end - files.end <= max(KEPT_NBYTES, self.nbytes // KEPT_SHARE)
        if self.refillable:
            packed = Piece(_packed(loose, rest, files.end), 0, rest.end - files.end)
            rest = lay_out([packed], limit, files.end)
        self._chunks = files.chunks + rest.chunks
        self._uploader = uploader
        self._octets = torch.empty(self.nbytes, dtype=torch.uint8, device=uploader.device)
        uploader.fill(self._octets, self._chunks, self.stamps)
        if not self.refillable:
            self._chunks = []  # which hold the loose ones

    @property
    def storage(self) -> torch.UntypedStorage:
        return self._octets.untyped_storage()

    def view(self, place: int, dtype: torch.dtype, shape: torch.Size) -> torch.Tensor:
        octets = self._octets[place : place + shape.numel() * dtype.itemsize]
        return octets.view(dtype).view(shape)

    def free(self) -> None:
        """The memory goes back to the allocator, which does not wait for the device."""
        self.storage.resize_(0)

    def refill(self) -> None:
        """After `free`, by the uploader's thread. Raises what `Uploader.fill` raises, and is free then."""
        assert self.refillable
        try:
            self.storage.resize_(self.nbytes)
            self._uploader.fill(self._octets, self._chunks, self.stamps)
        except BaseException:
            self.free()
            raise

    def register(self, *, evict: bool) -> None:
        """Have its files read from the page cache itself from now on, if that is done here."""
        if self._uploader.registrations is not None:
            self._uploader.registrations.add(self.stamps, evict=evict)

    def unregister(self) -> None:
        if self._uploader.registrations is not None:
            self._uploader.registrations.drop(self.stamps)


class Blocks:
    """Of the models that were loaded, by handler. `put` and `refill` belong to the uploader's thread."""

    def __init__(self) -> None:
        self._by_handler: weakref.WeakKeyDictionary[Handler, Block] = weakref.WeakKeyDictionary()

    def put(self, handler: Handler, block: Block) -> None:
        self._by_handler[handler] = block
        block.register(evict=True)

    def free(self, handler: Handler) -> bool:
        """Returns whether it was: only what can be filled again is."""
        block = self._by_handler.get(handler)
        if block is None or not block.refillable:
            return False
        block.free()
        return True

    def refill(self, handler: Handler) -> None:
        """Raises what `Block.refill` raises."""
        block = self._by_handler[handler]
        block.refill()
        block.register(evict=False)  # which takes longer than the copy, and would be undone as soon

    def drop(self, handler: Handler) -> list[tuple["weakref.ref[Any]", int]]:
        """Forget its block. Returns what is now to be freed and how long it is; empty where it has none."""
        block = self._by_handler.pop(handler, None)
        if block is None:
            return []
        block.unregister()
        return [(weakref.ref(block.storage), block.storage.nbytes())]


def _path(piece: Piece) -> str:
    assert isinstance(piece.source, str)
    return piece.source


def _packed(pieces: Sequence[Piece], layout: Layout, begin: int) -> torch.Tensor:
    """All of them as they lie in the block, which is `begin` bytes before."""
    octets = torch.zeros(layout.end - begin, dtype=torch.uint8)
    for piece, place in zip(pieces, layout.places, strict=True):
        assert isinstance(piece.source, torch.Tensor)
        values = piece.source[piece.offset : piece.offset + piece.nbytes]
        if piece.cast is not None:
            stored, target = piece.cast
            values = values.view(stored).to(target).view(torch.uint8)
        octets[place - begin :][: len(values)] = values
    return octets
