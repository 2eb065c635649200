"""One process for code out of artifacts, forked before it is needed.

A fork copies the page tables of all that the fork server imported, which is most of what an isolated
model's load takes. Always true: a spare has run nothing of any artifact, and is handed out once.
"""

import select
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from model_handler.processes.forkserver_client import ForkedProcess, ForkServerClient
from model_handler.processes.log_forwarder import Pipe

Order = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class PreforkedProcess:
    """`output`: what the process prints waits in it until somebody follows."""

    order: Order
    process: ForkedProcess
    output: Pipe

    @property
    def usable(self) -> bool:
        """It has not ended meanwhile: being first in line, it may have been killed for want of memory."""
        poll = select.poll()
        poll.register(self.process.end, select.POLLRDHUP)
        return not poll.poll(0)

    def discard(self) -> None:
        """It ends with its socket."""
        self.process.end.close()
        self.output.close()


class PreforkPool:
    """Hands out processes, and from the first one on keeps one more of the same kind ready."""

    def __init__(self, forks: ForkServerClient) -> None:
        self._forks = forks
        self._spare: PreforkedProcess | None = None
        self._closed = False

    async def take(self, order: Order) -> PreforkedProcess:
        """The caller owns it. Raises OSError when no process can be had."""
        spare, self._spare = self._spare, None
        if spare is not None and (spare.order != order or not spare.usable):
            spare.discard()
            spare = None
        taken = spare or await self._forked(order)
        with suppress(OSError):  # then the next one to ask hears of it
            await self._refill(order)
        return taken

    async def _refill(self, order: Order) -> None:
        spare = await self._forked(order)
        if self._spare is None and not self._closed:
            self._spare = spare
        else:
            spare.discard()

    async def _forked(self, order: Order) -> PreforkedProcess:
        output = Pipe()
        try:
            return PreforkedProcess(order, await self._forks.fork(order, output.writer), output)
        except OSError:
            output.close()
            raise
        finally:
            output.sent()

    def close(self) -> None:
        """From now on none is kept."""
        self._closed = True
        if self._spare is not None:
            self._spare.discard()
            self._spare = None
