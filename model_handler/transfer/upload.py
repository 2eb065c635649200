"""Upload files to the device: parallel reads into a ring of pinned buffers, overlapped with copies.

Copying from a mapped file instead would go through a small pinned buffer of the driver, tensor by tensor;
and fresh buffers would cost more to fault in than to fill. The design is that of ServerlessLLM (OSDI '24):
chunks, several readers, asynchronous copies. Tensors that run in another dtype than they are stored in are
copied to a staging buffer on the device and converted there. On a CPU device the same code copies into
pageable memory, so that tests need no GPU.
"""

import os
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from model_handler.artifacts.stamps import Stamps, opened
from model_handler.errors import ModelLoadFailed
from model_handler.transfer.layout import Chunk, Copy
from model_handler.transfer.registrations import Registrations

# Of 40 combinations the fastest on an H200 with 16 cores: 35 GB/s, 21 with 8 buffers of 16 MiB, 29 with 15
# readers (benchmarks/gpu/plain/uploads.py)
CHUNK_NBYTES = 4 << 20
SLOTS = 16
READERS = 8


class Mark:
    """A marker in a stream of copies; without a stream a copy is complete when its call returns.

    `blocking`: a waiting thread yields its core instead of spinning.
    """

    def __init__(self, stream: Any, *, blocking: bool = True) -> None:
        self._stream = stream
        self._event: Any = None
        if stream is not None:
            self._event = torch.cuda.Event(blocking=blocking)  # type: ignore[no-untyped-call]

    def record(self) -> None:
        if self._event is not None:
            self._event.record(self._stream)

    def synchronize(self) -> None:
        """Block until the device has reached the point recorded last; return at once if there is none."""
        if self._event is not None:
            self._event.synchronize()


@dataclass(frozen=True, slots=True)
class _Slot:
    buffer: torch.Tensor
    octets: memoryview  # the same memory
    copied: Mark  # recorded after the last copy from the buffer


@dataclass(frozen=True, slots=True)
class _ChunkRead:
    """A read in progress."""

    chunk: Chunk
    slot: _Slot
    future: "Future[None]"


class Uploader:
    """Owned by one loading thread. Holds `slots` × `chunk_nbytes` of pinned memory after the first upload.

    `registrations`: files that are copied directly from the page cache; None: every file uses the ring.
    """

    def __init__(
        self,
        device: torch.device,
        *,
        chunk_nbytes: int = CHUNK_NBYTES,
        slots: int = SLOTS,
        readers: int | None = None,
        registrations: Registrations | None = None,
    ) -> None:
        self.device = device
        self.chunk_nbytes = chunk_nbytes
        self.registrations = registrations
        self._count = slots
        self._readers = readers or max(1, min(READERS, len(os.sched_getaffinity(0)) - 1))
        self._pool: ThreadPoolExecutor | None = None
        self._ring: deque[_Slot] = deque()
        self._stream: Any = None

    def fill(self, block: torch.Tensor, chunks: Sequence[Chunk], stamps: Stamps) -> None:
        """Copy all chunks into `block`, a tensor of bytes on the device. The copies are complete on return.

        Raises ModelLoadFailed for a file that ends early or does not match its stamp, OSError, and what the
        allocator raises. The block's content is then undefined, but no copy is still writing to it.
        """
        self._open()
        with opened(stamps) as files, self._registered(stamps) as mapped, self._streaming():
            copies = _Copies(block, _staging_nbytes(chunks))
            end = self._mark()
            try:
                self._through_ring(
                    [each for each in chunks if each.source not in mapped], files, copies
                )
                for chunk in chunks:
                    if chunk.source in mapped:
                        copies.enqueue(chunk.copies, mapped[chunk.source][chunk.offset :])
            finally:
                end.record()
                end.synchronize()

    def _open(self) -> None:
        if self._ring:
            return
        pinned = self.device.type == "cuda"
        if pinned:
            self._stream = torch.cuda.Stream(self.device)  # type: ignore[no-untyped-call]
        self._pool = ThreadPoolExecutor(self._readers, "read")
        for _ in range(self._count):
            buffer = torch.empty(self.chunk_nbytes, dtype=torch.uint8, pin_memory=pinned)
            self._ring.append(_Slot(buffer, buffer.numpy().data, self._mark()))

    def _mark(self) -> Mark:
        return Mark(self._stream)

    def _registered(
        self, stamps: Stamps
    ) -> AbstractContextManager[Mapping[str | torch.Tensor, torch.Tensor]]:
        return nullcontext({}) if self.registrations is None else self.registrations.use(stamps)

    @contextmanager
    def _streaming(self) -> Iterator[None]:
        if self._stream is None:
            yield
            return
        # The allocator may have taken the memory from work that is still running
        self._stream.wait_stream(torch.cuda.current_stream(self.device))
        # Leaving a stream context restores the previous device: without the outer context that is device 0,
        # on which CUDA would then create a context
        with torch.cuda.device(self.device), torch.cuda.stream(self._stream):
            yield

    def _through_ring(
        self, chunks: Iterable[Chunk], files: Mapping[str, int], copies: "_Copies"
    ) -> None:
        reading: deque[_ChunkRead] = deque()
        try:
            for chunk in chunks:
                while not self._ring or (reading and reading[0].future.done()):
                    self._copy(reading.popleft(), copies)
                reading.append(self._read(chunk, files))
            while reading:
                self._copy(reading.popleft(), copies)
        finally:  # wait for the readers: none may still write into a slot of the ring
            for read in reading:
                read.future.exception()
                self._ring.append(read.slot)

    def _read(self, chunk: Chunk, files: Mapping[str, int]) -> _ChunkRead:
        assert self._pool is not None
        slot = self._ring.popleft()
        slot.copied.synchronize()
        return _ChunkRead(chunk, slot, self._pool.submit(_fetch, chunk, slot, files))

    def _copy(self, read: _ChunkRead, copies: "_Copies") -> None:
        self._ring.append(read.slot)
        read.future.result()
        copies.enqueue(read.chunk.copies, read.slot.buffer)
        read.slot.copied.record()


class _Copies:
    """Copies into one block, on the current stream."""

    def __init__(self, block: torch.Tensor, staging_nbytes: int) -> None:
        self._block = block
        self._staging = block.new_empty(staging_nbytes)

    def enqueue(self, copies: Sequence[Copy], octets: torch.Tensor) -> None:
        """`octets`: the source of the copies, in memory that the device can read."""
        for copy in copies:
            source = octets[copy.source : copy.source + copy.nbytes]
            if copy.cast is None:
                self._block[copy.target : copy.target + copy.nbytes].copy_(source, True)
            else:
                self._convert(copy, source)

    def _convert(self, copy: Copy, source: torch.Tensor) -> None:
        assert copy.cast is not None
        stored, target = copy.cast
        staged = self._staging[: copy.nbytes]
        staged.copy_(source, True)
        values = staged.view(stored)
        end = copy.target + values.numel() * target.itemsize
        self._block[copy.target : end].view(target).copy_(values)


def _staging_nbytes(chunks: Iterable[Chunk]) -> int:
    """Size of the staging buffer: that of the largest conversion, since they run one after the other."""
    return max((copy.nbytes for chunk in chunks for copy in chunk.copies if copy.cast), default=0)


def _fetch(chunk: Chunk, slot: _Slot, files: Mapping[str, int]) -> None:
    if isinstance(chunk.source, torch.Tensor):
        octets_read = chunk.source[chunk.offset : chunk.offset + chunk.nbytes]
        slot.buffer[: chunk.nbytes].copy_(octets_read)
        return
    done, octets = 0, slot.octets[: chunk.nbytes]
    while done < chunk.nbytes:
        count = os.preadv(files[chunk.source], [octets[done:]], chunk.offset + done)
        if not count:
            raise ModelLoadFailed(f"{Path(chunk.source).name} ended while it was read")
        done += count
