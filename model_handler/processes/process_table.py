"""What the kernel's process table says of processes, of which this process need not be the parent."""

import asyncio
import ctypes
import os
import signal
from collections.abc import Callable, Collection
from contextlib import suppress
from pathlib import Path

PR_SET_CHILD_SUBREAPER = 36  # linux/prctl.h
STEP_S = 0.01
BEAT_S = 1.0
STOPPED_BEATS = 2  # in a row at which a process is found stopped, and not by a debugger


def state(pid: int) -> str:
    """As proc(5) has it: T if a signal stopped it, Z if it has ended and its parent has not read its status.
    Empty if there is no such process."""
    fields = _fields(pid)
    return fields[0].decode() if fields else ""


def children() -> set[int]:
    """Processes whose parent is this process."""
    pids = (int(entry.name) for entry in os.scandir("/proc") if entry.name.isdecimal())
    own = str(os.getpid()).encode()
    return {pid for pid in pids if (fields := _fields(pid)) and fields[1] == own}


def _fields(pid: int) -> list[bytes]:
    """Those of /proc/PID/stat after the name: state, parent, process group, session …"""
    try:
        stat = Path(f"/proc/{pid}/stat").read_bytes()
    except OSError:
        return []  # it has ended meanwhile
    return stat.rpartition(b")")[2].split()  # the name may hold anything


def adopt_orphans() -> None:
    """Become the parent of descendants whose parent ends."""
    ctypes.CDLL(None, use_errno=True).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def has_ended(pid: int) -> bool:
    """If it has become a child of this process, since its own parent ended, its status is read."""
    with suppress(ChildProcessError):
        return os.waitpid(pid, os.WNOHANG)[0] == pid
    return state(pid) in ("", "Z", "X")


async def ended(pids: Collection[int], limit_s: float) -> bool:
    """Wait for the end of processes; False after the time limit."""
    loop = asyncio.get_running_loop()
    until, running = loop.time() + limit_s, set(pids)
    while True:
        running = {pid for pid in running if not has_ended(pid)}
        if not running or loop.time() > until:
            return not running
        await asyncio.sleep(STEP_S)


async def end_children(session: int, others: Collection[int | None], limit_s: float) -> None:
    """Kill the children of this process in a session, except `others`, and wait for their ends."""
    found = set()
    for pid in children() - {*others}:
        with suppress(ProcessLookupError):
            if os.getsid(pid) == session:
                os.kill(pid, signal.SIGKILL)
                found.add(pid)
    await ended(found, limit_s)


# ---- processes that neither answer nor end ----


def is_stopped(pid: int) -> bool:
    """Whether the process was stopped by a signal."""
    return state(pid) == "T"


class StopWatch:
    """Calls `found` once if the process stays stopped for STOPPED_BEATS while `awaited` says that others wait
    for it. To be cancelled when the process has ended."""

    def __init__(
        self, pid: int, awaited: Callable[[], object], found: Callable[[], object]
    ) -> None:
        self._pid = pid
        self._awaited = awaited
        self._found = found
        self._beats = 0
        self._loop = asyncio.get_running_loop()
        self._timer = self._loop.call_later(BEAT_S, self._look)

    def cancel(self) -> None:
        self._timer.cancel()

    def _look(self) -> None:
        stopped = self._awaited() and is_stopped(self._pid)
        self._beats = self._beats + 1 if stopped else 0
        if self._beats < STOPPED_BEATS:
            self._timer = self._loop.call_later(BEAT_S, self._look)
        else:
            self._found()
