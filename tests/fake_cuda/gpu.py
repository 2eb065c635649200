"""The fake GPU machine, seen from outside: memory and counters of each process, and fault injection.

All state is in files below one directory, see `runtime/processes.cpp`.
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
    """A live process that has used the fake GPU."""

    directory: Path

    @property
    def pid(self) -> int:
        return int(self.directory.name.partition("-")[0])

    @property
    def started(self) -> int:
        """Start time, in clock ticks since the boot of the machine."""
        return int(self.directory.name.partition("-")[2])

    @property
    def name(self) -> str:
        return str(psutil.Process(self.pid).name())

    def end(self) -> None:
        """Kill the process with SIGKILL, as the kernel's OOM killer does."""
        psutil.Process(self.pid).kill()

    def counters(self) -> dict[str, int]:
        """`used.0` (including the context), `mallocs`, `launches`, `copies`, `h2d_nbytes`, `copy_ns`, …"""
        found: dict[str, int] = defaultdict(int)
        for name, number in RECORD.iter_unpack((self.directory / "counters").read_bytes()):
            if text := name.rstrip(b"\0").decode():
                found[text] = number
        return found

    def held_nbytes(self, device: int = 0) -> int:
        """Bytes allocated on the device, excluding the context."""
        counters = self.counters()
        return counters[f"used.{device}"] - counters[f"context.{device}"]

    def missing(self, wanted: Mapping[str, bytes], device: int = 0) -> set[str]:
        """The names of the contents that do not occur in device memory."""
        found: set[str] = set()
        for memory in self._memory(device):
            found |= {name for name, _ in _occurrences(memory, wanted)}
        return wanted.keys() - found

    def erase(self, contents: Mapping[str, bytes], device: int = 0) -> int:
        """Overwrite each occurrence of the contents. Returns their number. Freed memory keeps its contents,
        so that a test would not notice a missing copy otherwise."""
        count = 0
        for memory in self._memory(device):
            for name, place in list(_occurrences(memory, contents)):
                memory[place : place + len(contents[name])] = ERASED
                count += 1
        return count

    def extent(self, wanted: Mapping[str, bytes], device: int = 0) -> int | None:
        """Bytes from the start of the first content to the end of the last, if one allocation holds all."""
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
    """Names and offsets of the contents that occur in memory. Each is at least a word long; tensors begin
    at multiples of 256."""
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
    """All processes that share FAKE_CUDA_DIR. `runtime`: output directory of build.sh."""

    directory: Path
    runtime: Path

    def environment(self, **changes: str) -> dict[str, str]:
        """Environment variables for a process on the fake GPU. `changes`: settings, without the prefix
        FAKE_CUDA_."""
        return {
            "LD_PRELOAD": str(self.runtime / "libfakecuda.so"),
            "LD_LIBRARY_PATH": str(self.runtime),
            "FAKE_CUDA_DIR": str(self.directory),
            **{f"FAKE_CUDA_{name}": text for name, text in changes.items()},
        }

    def processes(self) -> list[FakeProcess]:
        """Live processes that hold memory on any device."""
        found = [FakeProcess(each) for each in self.directory.glob("[0-9]*-[0-9]*")]
        return [each for each in found if _is_alive(each) and _holds_memory(each)]

    def used_nbytes(self, device: int = 0) -> int:
        """Used device memory of all processes, including their contexts."""
        return sum(each.counters()[f"used.{device}"] for each in self.processes())

    def inject(self, point: str, code: int, **words: int) -> None:
        """Make the next call at `point` (call, malloc, launch, copy, register) fail; see processes.cpp."""
        file = self.directory / "faults" / point
        file.parent.mkdir(parents=True, exist_ok=True)
        new = file.with_suffix(".test")
        new.write_text(
            " ".join(f"{name}={number}" for name, number in {"code": code, **words}.items())
        )
        new.rename(file)

    def pending(self, point: str) -> bool:
        """True if the injected fault has not occurred yet."""
        return (self.directory / "faults" / point).exists()

    def heal(self) -> None:
        """Remove injected faults that have not occurred yet."""
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
    except FileNotFoundError:  # it has just died, and another process has removed its files
        return False
    return any(number for name, number in counters.items() if name.startswith("used."))


if (
    __name__ == "__main__"
):  # python -m tests.fake_cuda.gpu DIRECTORY: every process's counters as JSON
    machine = FakeMachine(Path(sys.argv[1]), Path(os.devnull))
    print(json.dumps({each.pid: each.counters() for each in machine.processes()}, indent=1))
