"""The models in a container's memory, in order of use, with the leases of current requests.

A leased model is not unloaded until its leases are released; a model without leases is idle.
"""

import asyncio
from collections import Counter


class ModelUsage:
    def __init__(self) -> None:
        self._order: dict[str, None] = {}  # least recently used first
        self._leases: Counter[str] = Counter()
        self._idle: dict[str, asyncio.Event] = {}

    def __contains__(self, name: str) -> bool:
        return name in self._order

    def __len__(self) -> int:
        return len(self._order)

    def add(self, name: str) -> None:
        self._order.pop(name, None)
        self._order[name] = None

    def drop(self, name: str) -> None:
        """Remove a model that is no longer loaded, or is about to be unloaded. Its leases stay."""
        self._order.pop(name, None)

    def lease(self, name: str) -> None:
        self._leases[name] += 1
        if name in self._order:
            self.add(name)

    def release(self, name: str) -> None:
        self._leases[name] -= 1
        if not self._leases[name]:
            del self._leases[name]
            if event := self._idle.pop(name, None):
                event.set()

    def leased(self, name: str) -> bool:
        return name in self._leases

    async def wait_until_idle(self, name: str) -> None:
        if self.leased(name):
            await self._idle.setdefault(name, asyncio.Event()).wait()

    def least_recently_used(self, keep: str | None = None) -> str | None:
        """The next model to unload: an idle one if there is any, else one whose leases must end first."""
        candidates = [name for name in self._order if name != keep]
        return next((name for name in candidates if not self.leased(name)), None) or next(
            iter(candidates), None
        )
