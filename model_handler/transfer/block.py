"""One device allocation per model; all of the model's tensors are views of it.

After `free` the views stay bound to the block and must not be used; after `refill` they hold the same values
as before.
"""

import weakref
from collections.abc import Sequence
from typing import Any

import torch

from model_handler.artifacts.stamps import Stamps
from model_handler.handlers import Handler
from model_handler.transfer.layout import Layout, Piece, aligned, lay_out
from model_handler.transfer.upload import Uploader

GRANULE = 2 << 20  # CUDA's allocator requests multiples of this from the driver
# Bytes that are in no file are kept in main memory for a refill: at most KEPT_NBYTES, or 1/KEPT_SHARE of
# the block, whichever is larger
KEPT_NBYTES = 1 << 20
KEPT_SHARE = 8


class Block:
    """`stored`: pieces of files, sorted by file and offset. `loose`: all others. `stamps`: of those files.

    The constructor fills the block, on the uploader's thread. It raises what `Uploader.fill` raises.
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
            self._chunks = []  # they keep the loose pieces in memory

    @property
    def storage(self) -> torch.UntypedStorage:
        return self._octets.untyped_storage()

    def view(self, place: int, dtype: torch.dtype, shape: torch.Size) -> torch.Tensor:
        octets = self._octets[place : place + shape.numel() * dtype.itemsize]
        return octets.view(dtype).view(shape)

    def free(self) -> None:
        """Return the memory to the allocator, without waiting for the device."""
        self.storage.resize_(0)

    def refill(self) -> None:
        """Allocate and fill again after `free`. Call it on the uploader's thread.

        Raises what `Uploader.fill` raises; the block is then free.
        """
        assert self.refillable
        try:
            self.storage.resize_(self.nbytes)
            self._uploader.fill(self._octets, self._chunks, self.stamps)
        except BaseException:
            self.free()
            raise

    def register(self, *, evict: bool) -> None:
        """Register the block's files, if this is enabled: later uploads copy them from the page cache."""
        if self._uploader.registrations is not None:
            self._uploader.registrations.add(self.stamps, evict=evict)

    def unregister(self) -> None:
        if self._uploader.registrations is not None:
            self._uploader.registrations.drop(self.stamps)


class Blocks:
    """The blocks of loaded models, by handler. Call `put` and `refill` on the uploader's thread."""

    def __init__(self) -> None:
        self._by_handler: weakref.WeakKeyDictionary[Handler, Block] = weakref.WeakKeyDictionary()

    def put(self, handler: Handler, block: Block) -> None:
        self._by_handler[handler] = block
        block.register(evict=True)

    def free(self, handler: Handler) -> bool:
        """Free the handler's block if it can be refilled. Returns whether it was freed."""
        block = self._by_handler.get(handler)
        if block is None or not block.refillable:
            return False
        block.free()
        return True

    def refill(self, handler: Handler) -> None:
        """Refill the handler's block. Raises what `Block.refill` raises."""
        block = self._by_handler[handler]
        block.refill()
        block.register(evict=False)  # registering takes longer than the copy: do not thrash

    def drop(self, handler: Handler) -> list[tuple["weakref.ref[Any]", int]]:
        """Forget the handler's block.

        Returns a reference to the storage and its size, so that the caller can check that it is freed; an
        empty list where the handler has no block.
        """
        block = self._by_handler.pop(handler, None)
        if block is None:
            return []
        block.unregister()
        return [(weakref.ref(block.storage), block.storage.nbytes())]


def _path(piece: Piece) -> str:
    assert isinstance(piece.source, str)
    return piece.source


def _packed(pieces: Sequence[Piece], layout: Layout, begin: int) -> torch.Tensor:
    """The pieces, converted and placed as in the block from its byte `begin` on."""
    octets = torch.zeros(layout.end - begin, dtype=torch.uint8)
    for piece, place in zip(pieces, layout.places, strict=True):
        assert isinstance(piece.source, torch.Tensor)
        values = piece.source[piece.offset : piece.offset + piece.nbytes]
        if piece.cast is not None:
            stored, target = piece.cast
            values = values.view(stored).to(target).view(torch.uint8)
        octets[place - begin :][: len(values)] = values
    return octets
