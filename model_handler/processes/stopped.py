"""Finds processes that were stopped by a signal: they neither answer nor end by themselves."""

import asyncio
from collections.abc import Callable

from model_handler.processes import process_table

BEAT_S = 1.0
STOPPED_BEATS = 2  # in a row at which a process is found stopped, and not by a debugger


def is_stopped(pid: int) -> bool:
    """Whether the process was stopped by a signal."""
    return process_table.state(pid) == "T"


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
