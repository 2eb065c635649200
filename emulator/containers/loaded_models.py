"""Which models a container holds in memory, in the order of use, and who is using them.

A lease keeps a model from being unloaded under a request; models without leases are idle.
"""

import asyncio
from collections import Counter


class LoadedModels:
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
        """No longer loaded, or about to be unloaded; leases on it go on."""
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

    async def idle(self, name: str) -> None:
        if self.leased(name):
            await self._idle.setdefault(name, asyncio.Event()).wait()

    def least_recently_used(self, spare: str | None = None) -> str | None:
        """The next to go: one that nobody uses, else one that will be waited for."""
        candidates = [name for name in self._order if name != spare]
        return next((name for name in candidates if not self.leased(name)), None) or next(
            iter(candidates), None
        )
