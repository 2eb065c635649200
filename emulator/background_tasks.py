"""Tasks that outlive the call that started them, and groups of tasks that fail together."""

import asyncio
from collections.abc import Coroutine, Iterable
from typing import Any


class BackgroundTasks:
    """Invariant: holds a reference to every task until the task has ended."""

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[None]] = set()

    def start(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def run(self, work: Coroutine[Any, Any, None]) -> None:
        """Waits for the work. If the caller is cancelled, the work still runs to its end."""
        await asyncio.shield(self.start(work))

    async def finished(self) -> None:
        """Returns when no task is left, including tasks that were started during the wait."""
        while self._tasks:
            await asyncio.wait(self._tasks)

    async def cancel(self) -> None:
        """Cancels all tasks and waits until they have ended."""
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def run_all(works: Iterable[Coroutine[Any, Any, None]]) -> None:
    """Runs all concurrently. After a failure the others are cancelled; raises it once all have ended.

    Each task is cancelled at most once, so that its own cleanup is not interrupted.
    """
    try:
        async with asyncio.TaskGroup() as group:
            for work in works:
                group.create_task(work)
    except ExceptionGroup as failures:
        raise failures.exceptions[0] from None
