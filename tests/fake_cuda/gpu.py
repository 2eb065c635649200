"""The fake GPU machine seen from outside: what each process holds, its counters, and faults to order.

All of it is files below one directory, see `runtime/processes.cpp`.
"""

import json
import os
import struct
import sys
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import psutil

MIB = 1 << 20
RECORD = struct.Struct("24sQ")
ALIGNMENT, WORD, ERASED = 64, 8, 0xA5
Octets = np.ndarray[Any, np.dtype[np.uint8]]
OUT_OF_MEMORY, ILLEGAL_ADDRESS, CONTEXT_DESTROYED, ASSERT = 2, 700, 709, 710


@dataclass(frozen=True, slots=True)
class FakeProcess:
    """One process that has used the fake GPU and is alive."""

    directory: Path

    @property
    def pid(self) -> int:
        return int(self.directory.name.partition("-")[0])

    @property
    def started(self) -> int:
        """In clock ticks since the machine's start."""
        return int(self.directory.name.partition("-")[2])

    @property
    def name(self) -> str:
        return str(psutil.Process(self.pid).name())

    def end(self) -> None:
        """By SIGKILL, as the kernel ends it for want of memory."""
        psutil.Process(self.pid).kill()

    def counters(self) -> dict[str, int]:
        """`used.0` with the context, `mallocs`, `launches`, `copies`, `h2d_nbytes`, `copy_ns`, …"""
        found: dict[str, int] = defaultdict(int)
        for name, number in RECORD.iter_unpack((self.directory / "counters").read_bytes()):
            if text := name.rstrip(b"\0").decode():
                found[text] = number
        return found

    def held_nbytes(self, device: int = 0) -> int:
        """Allocated on the device, without the context."""
        counters = self.counters()
        return counters[f"used.{device}"] - counters[f"context.{device}"]

    def missing(self, wanted: Mapping[str, bytes], device: int = 0) -> set[str]:
        """The names of those contents that are nowhere in the device's memory now."""
        found: set[str] = set()
        for memory in self._memory(device):
            found |= {name for name, _ in _occurrences(memory, wanted)}
        return wanted.keys() - found

    def erase(self, contents: Mapping[str, bytes], device: int = 0) -> int:
        """Overwrite each occurrence; how many there were. Freed memory keeps what was in it, where a copy
        that never happened would go unnoticed."""
        count = 0
        for memory in self._memory(device):
            for name, place in list(_occurrences(memory, contents)):
                memory[place : place + len(contents[name])] = ERASED
                count += 1
        return count

    def extent(self, wanted: Mapping[str, bytes], device: int = 0) -> int | None:
        """Bytes from the first of these contents to the end of the last, if one allocation has them all."""
        for memory in self._memory(device):
            places = dict(_occurrences(memory, wanted))
            if places.keys() == wanted.keys():
                end = max(place + len(wanted[name]) for name, place in places.items())
                return end - min(places.values())
        return None

    def _memory(self, device: int) -> list[np.memmap[Any, np.dtype[np.uint8]]]:
        files = sorted(self.directory.glob(f"memory/{device}-*"))
        return [np.memmap(file, dtype=np.uint8, mode="r+") for file in files]


def _occurrences(memory: Octets, wanted: Mapping[str, bytes]) -> Iterator[tuple[str, int]]:
    """Where these contents, of at least a word each, are in memory. Tensors begin at multiples of 256."""
    by_start = defaultdict(list)
    for name, content in wanted.items():
        by_start[int.from_bytes(content[:WORD], sys.byteorder)].append(name)
    words = memory.view(np.uint64)[:: ALIGNMENT // WORD]
    for index in np.flatnonzero(np.isin(words, np.array(list(by_start), dtype=np.uint64))):
        place = int(index) * ALIGNMENT
        for name in by_start[int(words[index])]:
            if memory[place : place + len(wanted[name])].tobytes() == wanted[name]:
                yield name, place


@dataclass(frozen=True, slots=True)
class FakeMachine:
    """All processes that share FAKE_CUDA_DIR. `runtime`: where build.sh has put its libraries."""

    directory: Path
    runtime: Path

    def environment(self, **changes: str) -> dict[str, str]:
        """For processes that are to use the fake GPU; capital names without FAKE_CUDA_ in `changes`."""
        return {
            "LD_PRELOAD": str(self.runtime / "libfakecuda.so"),
            "LD_LIBRARY_PATH": str(self.runtime),
            "FAKE_CUDA_DIR": str(self.directory),
            **{f"FAKE_CUDA_{name}": text for name, text in changes.items()},
        }

    def processes(self) -> list[FakeProcess]:
        """Those alive that hold memory on some device."""
        found = [FakeProcess(each) for each in self.directory.glob("[0-9]*-[0-9]*")]
        return [each for each in found if _is_alive(each) and _holds_memory(each)]

    def used_nbytes(self, device: int = 0) -> int:
        """Of all processes, with their contexts."""
        return sum(each.counters()[f"used.{device}"] for each in self.processes())

    def inject(self, point: str, code: int, **words: int) -> None:
        """The next call at `point` (call, malloc, launch, copy, register) fails: see processes.cpp."""
        file = self.directory / "faults" / point
        file.parent.mkdir(parents=True, exist_ok=True)
        new = file.with_suffix(".test")
        new.write_text(
            " ".join(f"{name}={number}" for name, number in {"code": code, **words}.items())
        )
        new.rename(file)

    def pending(self, point: str) -> bool:
        """Has the fault not happened yet?"""
        return (self.directory / "faults" / point).exists()

    def heal(self) -> None:
        """Withdraw what was injected and has not happened."""
        for file in (self.directory / "faults").glob("*"):
            file.unlink(missing_ok=True)


def _is_alive(process: FakeProcess) -> bool:
    try:
        fields = Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return False
    return fields[19] == process.directory.name.partition("-")[2] and fields[0] not in "ZX"


def _holds_memory(process: FakeProcess) -> bool:
    try:
        counters = process.counters()
    except FileNotFoundError:  # it died just now, and another has tidied up
        return False
    return any(number for name, number in counters.items() if name.startswith("used."))


if (
    __name__ == "__main__"
):  # python -m tests.fake_cuda.gpu DIRECTORY: every process's counters as JSON
    machine = FakeMachine(Path(sys.argv[1]), Path(os.devnull))
    print(json.dumps({each.pid: each.counters() for each in machine.processes()}, indent=1))
