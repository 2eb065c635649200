"""Forwards what a process with an artifact's own code prints to the log, with the model's name.

Invariant: the bytes per second that one model adds to the log are bounded, and printing never blocks the
model: output beyond the bound is dropped and counted.
"""

import asyncio
import logging
import os
from collections.abc import Callable

log = logging.getLogger(__name__)
BURST_NBYTES = 64 << 10  # a traceback or two
RATE_NBYTES = 16 << 10  # a second, in the long run
MAX_LINE_NBYTES = 8 << 10
REPORT_S = 1.0


class Allowance:
    """A token bucket over bytes. `now` is in seconds on any steady clock."""

    def __init__(self, burst: int, rate: int, now: float) -> None:
        self._burst = burst
        self._rate = rate
        self._left = float(burst)
        self._now = now

    def take(self, nbytes: int, now: float) -> bool:
        """True when there was enough; else nothing is taken."""
        self._left = min(self._burst, self._left + (now - self._now) * self._rate)
        self._now = now
        if nbytes > self._left:
            return False
        self._left -= nbytes
        return True


class Output(asyncio.Protocol):
    """Reads the standard output and error of one process until every holder has closed them."""

    def __init__(self, say: Callable[[str], None]) -> None:
        self._say = say
        self._loop = asyncio.get_running_loop()
        self._allowance = Allowance(BURST_NBYTES, RATE_NBYTES, self._loop.time())
        self._line = b""
        self._dropped = 0

    def data_received(self, data: bytes) -> None:
        if not self._allowance.take(len(data), self._loop.time()):
            self._drop(data)
            return
        *lines, self._line = (self._line + data).split(b"\n")
        if len(self._line) > MAX_LINE_NBYTES:
            lines.append(self._line)
            self._line = b""
        for line in lines:
            self._print(line)

    def connection_lost(self, exc: Exception | None) -> None:
        self._report_dropped()
        self._print(self._line)

    def _drop(self, data: bytes) -> None:
        if not self._dropped:  # said once a second, also when nothing is printed afterwards
            self._loop.call_later(REPORT_S, self._report_dropped)
        self._dropped += len(data) + len(self._line)
        self._line = b""

    def _report_dropped(self) -> None:
        if self._dropped:
            log.warning("output dropped", extra={"nbytes": self._dropped})
            self._dropped = 0

    def _print(self, line: bytes) -> None:
        if line.strip():
            self._say(line[:MAX_LINE_NBYTES].decode("utf-8", "replace"))


class Pipe:
    """A pipe from the process to the log. `writer` is the process's end, closed here by `sent`."""

    def __init__(self) -> None:
        self._reader, self.writer = os.pipe()

    def sent(self) -> None:
        os.close(self.writer)

    def close(self) -> None:
        """Instead of `follow`."""
        os.close(self._reader)

    async def follow(self, say: Callable[[str], None]) -> None:
        """Start to forward in the background."""
        loop = asyncio.get_running_loop()
        await loop.connect_read_pipe(lambda: Output(say), os.fdopen(self._reader, "rb", 0))
