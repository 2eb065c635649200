"""An event loop whose clock the test moves."""

import asyncio


class VirtualLoop(asyncio.SelectorEventLoop):
    """`now`: the time. The loop does not wait for timers as long as a task can go on."""

    now = 0.0

    def time(self) -> float:
        return self.now

    def turns(self, count: int = 40) -> None:
        """Run until only workers, timers and clients can continue, or only `count` turns."""
        self.run_until_complete(self._turns(count))

    async def _turns(self, count: int) -> None:
        for _ in range(count):
            await asyncio.sleep(0)
