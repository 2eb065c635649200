"""Bytes of files to the device: parallel reads into a reused ring of pinned buffers, copied while the next
are read.

A file's pages, mapped, would be copied by the driver through a small pinned buffer of its own, one tensor
after the other; and fresh memory costs more to fault in than to fill. The design is that of
ServerlessLLM (OSDI '24): chunks, several readers, asynchronous copies. On a CPU device the same code
copies into plain memory, which is how it is tested without a GPU.
"""

import os
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from model_handler.errors import ModelLoadFailed

CHUNK_NBYTES = 16 << 20
SLOTS = 8
ALIGNMENT = 256  # what cudaMalloc promises, and kernels with wide loads rely on


@dataclass(frozen=True, slots=True)
class Piece:
    """A stretch of a file that becomes one tensor."""

    path: str
    offset: int
    nbytes: int


@dataclass(frozen=True, slots=True)
class _Copy:
    """From a place in the chunk to a place in the device's buffer."""

    source: int
    target: int
    nbytes: int


@dataclass(slots=True)
class _Chunk:
    path: str
    offset: int
    nbytes: int = 0
    copies: list[_Copy] = field(default_factory=list)

    def reaches(self, path: str, offset: int, limit: int) -> bool:
        return path == self.path and self.offset <= offset < self.offset + limit

    def take(self, piece: Piece, place: int, done: int, limit: int) -> int:
        """Add what fits of the piece, of which `done` bytes are taken already; returns how many."""
        source = piece.offset + done - self.offset
        nbytes = min(piece.nbytes - done, limit - source)
        self.copies.append(_Copy(source, place + done, nbytes))
        self.nbytes = max(self.nbytes, source + nbytes)
        return nbytes


@dataclass(slots=True)
class _Slot:
    """`copied`: waits until the device has what was in the buffer."""

    buffer: torch.Tensor
    copied: Callable[[], object]


class Uploader:
    """Used by one loading thread. Holds `slots` × `chunk_nbytes` of pinned memory after the first upload."""

    def __init__(
        self,
        device: torch.device,
        *,
        chunk_nbytes: int = CHUNK_NBYTES,
        slots: int = SLOTS,
        readers: int | None = None,
    ) -> None:
        self._device = device
        self._chunk_nbytes = chunk_nbytes
        self._count = slots
        self._readers = readers or max(1, min(slots, len(os.sched_getaffinity(0)) - 1))
        self._pool: ThreadPoolExecutor | None = None
        self._ring: deque[_Slot] = deque()
        self._stream: Any = None

    def upload(self, pieces: Sequence[Piece]) -> list[torch.Tensor]:
        """For each piece its bytes, as views of one allocation on the device; complete on return.

        Raises ModelLoadFailed for a file that ends early, OSError, and what the allocator raises.
        """
        self._open()
        places, nbytes = _places(pieces)
        whole = torch.empty(nbytes, dtype=torch.uint8, device=self._device)
        chunks = list(_chunks(pieces, places, self._chunk_nbytes))
        with self._streaming():
            self._run(chunks, whole)
        return [whole[at : at + piece.nbytes] for at, piece in zip(places, pieces, strict=True)]

    def _open(self) -> None:
        if self._ring:
            return
        pinned = self._device.type == "cuda"
        if pinned:
            self._stream = torch.cuda.Stream(self._device)  # type: ignore[no-untyped-call]
        self._pool = ThreadPoolExecutor(self._readers, "read")
        for _ in range(self._count):
            buffer = torch.empty(self._chunk_nbytes, dtype=torch.uint8, pin_memory=pinned)
            self._ring.append(_Slot(buffer, _at_once))

    def _streaming(self) -> AbstractContextManager[object]:
        if self._stream is None:
            return nullcontext()
        # The allocator may have taken the memory from work that is still running
        self._stream.wait_stream(torch.cuda.current_stream(self._device))
        return torch.cuda.stream(self._stream)

    def _run(self, chunks: Sequence[_Chunk], whole: torch.Tensor) -> None:
        reading: deque[tuple[_Chunk, _Slot, Future[None]]] = deque()
        assert self._pool is not None
        try:
            for chunk in chunks:
                if not self._ring:
                    self._copy(reading.popleft(), whole)
                slot = self._ring.popleft()
                slot.copied()
                reading.append((chunk, slot, self._pool.submit(_read, chunk, slot.buffer)))
            while reading:
                self._copy(reading.popleft(), whole)
        finally:  # nobody may write into a slot that is given out again
            for _, slot, future in reading:
                future.exception()
                self._ring.append(slot)
            for slot in self._ring:
                slot.copied()

    def _copy(self, read: tuple[_Chunk, _Slot, "Future[None]"], whole: torch.Tensor) -> None:
        chunk, slot, future = read
        self._ring.append(slot)
        future.result()
        for copy in chunk.copies:
            source = slot.buffer[copy.source : copy.source + copy.nbytes]
            whole[copy.target : copy.target + copy.nbytes].copy_(source, non_blocking=True)
        slot.copied = self._mark()

    def _mark(self) -> Callable[[], object]:
        if self._stream is None:
            return _at_once
        event = torch.cuda.Event()  # type: ignore[no-untyped-call]
        event.record(self._stream)
        return event.synchronize


def _at_once() -> None:
    pass


def _places(pieces: Sequence[Piece]) -> tuple[list[int], int]:
    """Where each piece begins in one aligned buffer, and how long that is."""
    places, end = [], 0
    for piece in pieces:
        places.append(end)
        end += -(-piece.nbytes // ALIGNMENT) * ALIGNMENT
    return places, end


def _chunks(pieces: Sequence[Piece], places: Sequence[int], limit: int) -> Iterator[_Chunk]:
    """Reads in the order of the files that cover all pieces; what lies between two is read along or left
    out, whichever fits."""
    ordered = sorted(zip(pieces, places, strict=True), key=lambda one: (one[0].path, one[0].offset))
    chunk = _Chunk("", 0)
    for piece, place in ordered:
        done = 0
        while done < piece.nbytes:
            if not chunk.reaches(piece.path, piece.offset + done, limit):
                if chunk.nbytes:
                    yield chunk
                chunk = _Chunk(piece.path, piece.offset + done)
            done += chunk.take(piece, place, done, limit)
    if chunk.nbytes:
        yield chunk


def _read(chunk: _Chunk, buffer: torch.Tensor) -> None:
    view = buffer.numpy().data[: chunk.nbytes]
    descriptor = os.open(chunk.path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        done = 0
        while done < chunk.nbytes:
            count = os.preadv(descriptor, [view[done:]], chunk.offset + done)
            if not count:
                raise ModelLoadFailed(f"{Path(chunk.path).name} ended while it was read")
            done += count
    finally:
        os.close(descriptor)
