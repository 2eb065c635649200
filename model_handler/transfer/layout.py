"""The layout of a model's tensors in one block of memory, and the reads that fill it.

Tensors keep the order in which they are given. Given in the order of a file, neighbours in the file are
neighbours in the block, so that one copy can move all tensors of one read.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import torch

ALIGNMENT = 256  # cudaMalloc guarantees it, and kernels with wide loads rely on it

Cast = tuple[torch.dtype, torch.dtype]  # from, to


@dataclass(frozen=True, slots=True)
class Piece:
    """The bytes of one tensor: a range of a file, or of a flat tensor of bytes in main memory.

    `cast`: the conversion on the way into the block; None: no conversion.
    """

    source: str | torch.Tensor
    offset: int
    nbytes: int
    cast: Cast | None = None

    @property
    def item_nbytes(self) -> int:
        """Size of the unit that a read must not split."""
        return self.cast[0].itemsize if self.cast else 1

    def converted(self, nbytes: int) -> int:
        """The size in the block of `nbytes` bytes of the source."""
        if self.cast is None:
            return nbytes
        stored, target = self.cast
        return nbytes // stored.itemsize * target.itemsize


@dataclass(slots=True)
class Copy:
    """One copy from a read buffer (`source`: offset) to the block (`target`: offset).

    `nbytes`: before the conversion.
    """

    source: int
    target: int
    nbytes: int
    cast: Cast | None

    def continues(self, piece: Piece, source: int, target: int) -> bool:
        """Whether this part of the piece directly follows the copy, in the source and in the block."""
        return (
            self.cast == piece.cast
            and self.source + self.nbytes == source
            and self.target + piece.converted(self.nbytes) == target
        )


@dataclass(slots=True)
class Chunk:
    """One read and the copies from its buffer."""

    source: str | torch.Tensor
    offset: int
    nbytes: int = 0
    copies: list[Copy] = field(default_factory=list)

    def room(self, piece: Piece, done: int, limit: int) -> int:
        """How many of the piece's bytes from `done` on fit into this read of at most `limit` bytes."""
        start = piece.offset + done - self.offset
        if not _same(piece.source, self.source) or start < 0 or start % piece.item_nbytes:
            return 0
        nbytes = min(piece.nbytes - done, limit - start)
        return max(0, nbytes - nbytes % piece.item_nbytes)

    def take(self, piece: Piece, place: int, done: int, nbytes: int) -> None:
        """Add `nbytes` of the piece's bytes from `done` on. `place`: where the piece begins in the block."""
        start = piece.offset + done - self.offset
        target = place + piece.converted(done)
        self.nbytes = max(self.nbytes, start + nbytes)
        if self.copies and self.copies[-1].continues(piece, start, target):
            self.copies[-1].nbytes += nbytes
        else:
            self.copies.append(Copy(start, target, nbytes, piece.cast))


@dataclass(frozen=True, slots=True)
class Layout:
    """`places`: where each piece begins in the block. `end`: aligned end of the last piece."""

    places: list[int]
    end: int
    chunks: list[Chunk]


def lay_out(pieces: Sequence[Piece], limit: int, start: int = 0) -> Layout:
    """Place the pieces one after the other from `start` on, each aligned. `limit`: bytes of one read."""
    places, end = [], start
    for piece in pieces:
        places.append(end)
        end = aligned(end + piece.converted(piece.nbytes), ALIGNMENT)
    return Layout(places, end, list(_chunks(pieces, places, limit)))


def aligned(nbytes: int, granule: int) -> int:
    """`nbytes` rounded up to a multiple of `granule`."""
    return -(-nbytes // granule) * granule


def _chunks(pieces: Sequence[Piece], places: Sequence[int], limit: int) -> Iterator[Chunk]:
    """The reads. A gap between two pieces is read too if the next one begins within the same read."""
    chunk = Chunk("", 0)
    for piece, place in zip(pieces, places, strict=True):
        done = 0
        while done < piece.nbytes:
            if not (nbytes := chunk.room(piece, done, limit)):
                if chunk.nbytes:
                    yield chunk
                chunk = Chunk(piece.source, piece.offset + done)
                nbytes = chunk.room(piece, done, limit)
                assert nbytes, "a read holds at least one item"
            chunk.take(piece, place, done, nbytes)
            done += nbytes
    if chunk.nbytes:
        yield chunk


def _same(one: str | torch.Tensor, other: str | torch.Tensor) -> bool:
    return one is other or (isinstance(one, str) and one == other)
