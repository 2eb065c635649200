"""Where the tensors of one model lie in one block of memory, and which reads fill the block.

Tensors keep the order in which they are given. In the order of a file, neighbours stay neighbours, so that
one copy moves as many of them as one read holds.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import torch

ALIGNMENT = 256  # what cudaMalloc promises, and kernels with wide loads rely on

Cast = tuple[torch.dtype, torch.dtype]  # from, to


@dataclass(frozen=True, slots=True)
class Piece:
    """The bytes of one tensor: a stretch of a file, or of a flat tensor of bytes in main memory.

    `cast`: how they are converted on their way into the block; None: not at all.
    """

    source: str | torch.Tensor
    offset: int
    nbytes: int
    cast: Cast | None = None

    @property
    def item_nbytes(self) -> int:
        """Bytes that have to stay together."""
        return self.cast[0].itemsize if self.cast else 1

    def converted(self, nbytes: int) -> int:
        """How long so many of its bytes are in the block."""
        if self.cast is None:
            return nbytes
        stored, target = self.cast
        return nbytes // stored.itemsize * target.itemsize


@dataclass(slots=True)
class Copy:
    """From a place in what was read to a place in the block. `nbytes`: before the conversion."""

    source: int
    target: int
    nbytes: int
    cast: Cast | None

    def continues(self, piece: Piece, source: int, target: int) -> bool:
        """Would this part of the piece lie right behind it, on both sides?"""
        return (
            self.cast == piece.cast
            and self.source + self.nbytes == source
            and self.target + piece.converted(self.nbytes) == target
        )


@dataclass(slots=True)
class Chunk:
    """One read and the copies out of it."""

    source: str | torch.Tensor
    offset: int
    nbytes: int = 0
    copies: list[Copy] = field(default_factory=list)

    def room(self, piece: Piece, done: int, limit: int) -> int:
        """How many of the piece's bytes from `done` on a read of at most `limit` bytes can hold."""
        start = piece.offset + done - self.offset
        if not _same(piece.source, self.source) or start < 0 or start % piece.item_nbytes:
            return 0
        nbytes = min(piece.nbytes - done, limit - start)
        return max(0, nbytes - nbytes % piece.item_nbytes)

    def take(self, piece: Piece, place: int, done: int, nbytes: int) -> None:
        """Add so many of the piece's bytes from `done` on. `place`: where the piece begins in the block."""
        start = piece.offset + done - self.offset
        target = place + piece.converted(done)
        self.nbytes = max(self.nbytes, start + nbytes)
        if self.copies and self.copies[-1].continues(piece, start, target):
            self.copies[-1].nbytes += nbytes
        else:
            self.copies.append(Copy(start, target, nbytes, piece.cast))


@dataclass(frozen=True, slots=True)
class Layout:
    """`places`: where each piece begins in the block. `end`: aligned, of the last."""

    places: list[int]
    end: int
    chunks: list[Chunk]


def lay_out(pieces: Sequence[Piece], limit: int, start: int = 0) -> Layout:
    """One piece after the other, each aligned, from `start` on. `limit`: bytes of one read."""
    places, end = [], start
    for piece in pieces:
        places.append(end)
        end = aligned(end + piece.converted(piece.nbytes), ALIGNMENT)
    return Layout(places, end, list(_chunks(pieces, places, limit)))


def aligned(nbytes: int, granule: int) -> int:
    """Rounded up to whole granules."""
    return -(-nbytes // granule) * granule


def _chunks(pieces: Sequence[Piece], places: Sequence[int], limit: int) -> Iterator[Chunk]:
    """What lies between two pieces is read along or left out, whichever fits."""
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
