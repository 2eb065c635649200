"""python -m benchmarks.gpu.plain.uploads DEVICE FILE

Measures `Uploader` on one file in the page cache, in GB/s: by size of a read, by number of buffers and
readers, with waits that sleep or spin, and from pages that are registered with the driver.
"""

import json
import sys
import time
from collections.abc import Mapping
from functools import partial
from pathlib import Path

import torch

from benchmarks.gpu.plain.clock import gb_per_s, median_s, ms
from model_handler.artifacts.stamps import stamped
from model_handler.transfer import registrations
from model_handler.transfer.layout import Chunk, Piece, lay_out
from model_handler.transfer.upload import Mark, Uploader

MIB = 1 << 20
CHUNKS_MIB = (1, 2, 4, 8, 16)
RINGS = ((8, 8), (16, 8), (16, 15), (32, 15))  # buffers, readers
Rates = dict[str, float]


class SpinningUploader(Uploader):
    """A thread that waits for a copy keeps its core busy."""

    def _mark(self) -> Mark:
        return Mark(self._stream, blocking=False)


class Upload:
    """One file and the block it is copied to."""

    def __init__(self, device: str, file: Path) -> None:
        self.device, self.stamps = torch.device(device), stamped([file])
        self.nbytes = file.stat().st_size
        self._piece = Piece(next(iter(self.stamps)), 0, self.nbytes)
        self._block = torch.empty(self.nbytes, dtype=torch.uint8, device=device)

    def rate(self, uploader: Uploader) -> float:
        chunks = self._chunks(uploader.chunk_nbytes)
        fill = partial(uploader.fill, self._block, chunks, self.stamps)
        return gb_per_s(self.nbytes, median_s(self.device.type, fill, times=7, warm=2))

    def _chunks(self, limit: int) -> list[Chunk]:
        return lay_out([self._piece], limit).chunks


def sweep(upload: Upload, kind: type[Uploader]) -> Rates:
    return {
        f"{mib}MiB, {slots} buffers, {readers} readers": upload.rate(
            kind(upload.device, chunk_nbytes=mib * MIB, slots=slots, readers=readers)
        )
        for mib in CHUNKS_MIB
        for slots, readers in RINGS
    }


def registered(upload: Upload) -> Mapping[str, float]:
    pages = registrations.on(upload.device, 2 * upload.nbytes)
    assert pages is not None
    began = time.perf_counter()
    pages.add(upload.stamps, evict=True)
    taken_ms = ms(time.perf_counter() - began)
    uploader = Uploader(upload.device, registrations=pages)
    found = {"register_ms": taken_ms, "GBps": upload.rate(uploader)}
    began = time.perf_counter()
    pages.drop(upload.stamps)
    return found | {"unregister_ms": ms(time.perf_counter() - began)}


def main() -> None:
    device, file = sys.argv[1], Path(sys.argv[2])
    upload = Upload(device, file)
    found: dict[str, object] = {"sleeping": sweep(upload, Uploader)}
    if device == "cuda":
        found["spinning"] = sweep(upload, SpinningUploader)
        found["registered"] = registered(upload)
    print(json.dumps(found))


if __name__ == "__main__":
    main()
