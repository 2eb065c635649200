"""The size of main memory: the machine's memory, or the container's limit in cgroup version 1 or 2."""

from pathlib import Path

import pytest

from model_handler.engine.admission import main_memory_nbytes

GIB = 1 << 30
MACHINE = {"proc/meminfo": f"MemFree: 1 kB\nMemTotal: {8 * GIB // 1024} kB\n"}
V2, V1 = "sys/fs/cgroup/memory.max", "sys/fs/cgroup/memory/memory.limit_in_bytes"
UNLIMITED_V1 = str(
    (1 << 63) - 4096
)  # the kernel's value without a limit: a multiple of the page size


@pytest.mark.parametrize(
    ("limits", "nbytes"),
    [
        ({}, 8 * GIB),
        ({V2: f"{2 * GIB}\n"}, 2 * GIB),
        ({V2: "max\n"}, 8 * GIB),
        ({V1: f"{3 * GIB}\n"}, 3 * GIB),
        ({V1: UNLIMITED_V1}, 8 * GIB),
        ({V2: f"{64 * GIB}\n"}, 8 * GIB),
    ],
)
def test_the_smaller_of_machine_and_limit(
    tmp_path: Path, limits: dict[str, str], nbytes: int
) -> None:
    for name, text in (MACHINE | limits).items():
        file = tmp_path / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    assert main_memory_nbytes(tmp_path) == nbytes
