"""Tasks that nobody awaits."""

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

Result = TypeVar("Result")


def in_background(work: Coroutine[Any, Any, Result]) -> "asyncio.Task[Result]":
    """Start a task, which the caller has to keep. An error that ends it is reported to the event loop's
    exception handler at once, and not only when the task is garbage."""
    task = asyncio.get_running_loop().create_task(work)
    task.add_done_callback(_report)
    return task


def _report(task: "asyncio.Task[Any]") -> None:
    if not task.cancelled() and (error := task.exception()) is not None:
        context = {"message": "a background task failed", "exception": error, "task": task}
        task.get_loop().call_exception_handler(context)
