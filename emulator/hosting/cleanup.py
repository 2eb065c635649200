"""Starting and stopping without leaving anything behind, whoever is cancelled meanwhile."""

import asyncio
from collections.abc import Coroutine, Iterable
from typing import Any


class Cleanup:
    """Work that is seen through even when whoever asked for it is cancelled: stopping containers."""

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[None]] = set()

    async def run(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        await asyncio.shield(task)

    async def finished(self) -> None:
        """Return when nothing is under way, including what came up meanwhile."""
        while self._tasks:
            await asyncio.wait(self._tasks)


async def run_all(works: Iterable[Coroutine[Any, Any, None]]) -> None:
    """Return when all are done, or raise what the first failure raised once all have ended.

    Each is cancelled at most once, so that what it does about that is not interrupted.
    """
    tasks = [asyncio.create_task(work) for work in works]
    if not tasks:
        return
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_EXCEPTION)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
    failures = [task.exception() for task in tasks if not task.cancelled()]
    for failure in failures:
        if failure is not None:
            raise failure
