"""What a server holds: processes, descriptors, temporary files, shared memory, the ledger."""

import contextlib
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import psutil

from tests.hostile.watched_server import WatchedServer

GAUGES = (
    'mme_memory_reserved_bytes{tier="device"}',
    'mme_memory_reserved_bytes{tier="host"}',
    "mme_requests_waiting",
    "mme_batches_running",
    "mme_models_loaded",
)


@dataclass(frozen=True, slots=True)
class Remains:
    """`descriptors`: of the front. `files`: paths below the server's temporary directory and /dev/shm."""

    processes: Counter[str]
    descriptors: Counter[str]
    files: frozenset[str]
    gauges: dict[str, float]

    def differences(self, earlier: "Remains") -> dict[str, str]:
        """What is more than before, and figures that are not as before. A process that was kept for the next
        artifact may be missing: one that was slow is not kept."""
        found: dict[str, str] = {}
        for name in ("processes", "descriptors", "files"):
            before, now = getattr(earlier, name), getattr(self, name)
            if more := now - before:
                found[name] = f"{more} beside {before}"
        if self.gauges != earlier.gauges:
            found["gauges"] = f"{earlier.gauges} → {self.gauges}"
        return found


def remains(server: WatchedServer, temporary: Path) -> Remains:
    assert server.process.pid is not None
    front = psutil.Process(server.process.pid)
    gauges = server.gauges()
    folders = (temporary, Path("/dev/shm"))
    return Remains(
        Counter(name for _, name in family(front)),
        _descriptors(front.pid),
        frozenset(str(path) for folder in folders for path in folder.rglob("*")),
        {name: gauges.get(name, 0.0) for name in GAUGES},
    )


def family(front: psutil.Process) -> list[tuple[psutil.Process, str]]:
    """All descendants that run or are stopped, with their names."""
    found = []
    for process in front.children(recursive=True):
        with contextlib.suppress(psutil.NoSuchProcess):
            if process.status() != psutil.STATUS_ZOMBIE:
                found.append((process, process.name()))
    return found


def _descriptors(pid: int) -> Counter[str]:
    """Open descriptors by kind; the numbers of sockets and pipes differ each time."""
    kinds: Counter[str] = Counter()
    for path in Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(OSError):
            kinds[str(path.readlink()).partition(":")[0]] += 1
    return kinds
