"""A process for code from artifacts, forked before it is needed.

A fork copies the page tables of everything that the fork server imported, which takes most of the load
time of an isolated model. Invariant: a preforked process has run no code of any artifact, and is handed
out once.
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
    """`output` buffers what the process prints until `follow` is called."""

    order: Order
    process: ForkedProcess
    output: Pipe

    @property
    def usable(self) -> bool:
        """False when it has ended: the kernel kills such processes first when memory is short."""
        poll = select.poll()
        poll.register(self.process.end, select.POLLRDHUP)
        return not poll.poll(0)

    def discard(self) -> None:
        """It ends with its socket."""
        self.process.end.close()
        self.output.close()


class PreforkPool:
    """Hands out processes. After the first one, keeps one more of the same kind ready."""

    def __init__(self, forks: ForkServerClient) -> None:
        self._forks = forks
        self._spare: PreforkedProcess | None = None
        self._closed = False

    async def take(self, order: Order) -> PreforkedProcess:
        """A process, owned by the caller. Raises OSError when none can be forked."""
        spare, self._spare = self._spare, None
        if spare is not None and (spare.order != order or not spare.usable):
            spare.discard()
            spare = None
        taken = spare or await self._forked(order)
        try:
            with suppress(OSError):  # the next call forks one itself, and raises
                await self._refill(order)
        except BaseException:
            taken.discard()
            raise
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
        """End the process that was kept; keep none from now on."""
        self._closed = True
        if self._spare is not None:
            self._spare.discard()
            self._spare = None
