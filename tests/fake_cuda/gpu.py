"""The fake GPU machine seen from outside: what each process holds, its counters, and faults to order.

All of it is files below one directory, see `runtime/processes.cpp`.
"""

import json
import os
import struct
import sys
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import psutil

MIB = 1 << 20
RECORD = struct.Struct("24sQ")
OUT_OF_MEMORY, ILLEGAL_ADDRESS, CONTEXT_DESTROYED, ASSERT = 2, 700, 709, 710


@dataclass(frozen=True, slots=True)
class FakeProcess:
    """One process that has used the fake GPU and is alive."""

    directory: Path

    @property
    def pid(self) -> int:
        return int(self.directory.name.partition("-")[0])

    @property
    def name(self) -> str:
        return str(psutil.Process(self.pid).name())

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

    def holds(self, content: bytes, device: int = 0) -> bool:
        """Are these bytes somewhere in the device's memory now?"""
        return any(_find(file, content) >= 0 for file in self._memory(device))

    def erase(self, content: bytes, device: int = 0) -> int:
        """Overwrite each occurrence; how many there were. Freed memory keeps what was in it, where a copy
        that never happened would go unnoticed."""
        count = 0
        for file in self._memory(device):
            while (at := _find(file, content)) >= 0:
                with file.open("r+b") as stream:
                    stream.seek(at)
                    stream.write(b"\xa5" * len(content))
                count += 1
        return count

    def _memory(self, device: int) -> list[Path]:
        return sorted(self.directory.glob(f"memory/{device}-*"))


def _find(file: Path, content: bytes) -> int:
    """Where the file holds it, at a multiple of four; -1 where it does not."""
    memory = np.memmap(file, dtype=np.uint32, mode="r")
    (first,) = np.frombuffer(content[:4], dtype=np.uint32)
    for place in np.flatnonzero(memory == first) * 4:
        if memory.view(np.uint8)[place : place + len(content)].tobytes() == content:
            return int(place)
    return -1


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
        return [each for each in found if _is_alive(each) and _holds_memory(each.counters())]

    def process(self, name: str) -> FakeProcess:
        (found,) = (each for each in self.processes() if each.name == name)
        return found

    def used_nbytes(self, device: int = 0) -> int:
        """Of all processes, with their contexts."""
        return sum(each.counters()[f"used.{device}"] for each in self.processes())

    def inject(self, point: str, code: int, **words: int) -> None:
        """The next call at `point` (call, malloc, launch, copy, register) fails: see processes.cpp."""
        file = self.directory / "faults" / point
        file.parent.mkdir(exist_ok=True)
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


def _holds_memory(counters: Mapping[str, int]) -> bool:
    return any(number for name, number in counters.items() if name.startswith("used."))


if (
    __name__ == "__main__"
):  # python -m tests.fake_cuda.gpu DIRECTORY: every process's counters as JSON
    machine = FakeMachine(Path(sys.argv[1]), Path(os.devnull))
    print(json.dumps({each.pid: each.counters() for each in machine.processes()}, indent=1))
