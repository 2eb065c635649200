"""What happens when an error escapes on the event loop.

The rule: an error that escaped from a callback (`call_soon`, `call_at`, `call_later`, a done callback,
`connection_lost`) or from a task that nobody awaits has left some state half changed, and nobody would
notice. It is logged, and the process ends with status 1, so that the platform starts the container again.

Only logged are: errors of the operating system, as transports report them (a reset connection, no more file
descriptors); errors of the engine, which are answers that nobody waited for; errors in a protocol's
`data_received`, for which the event loop closes that connection; and messages without an error.
"""

import asyncio
import logging
import os
from collections.abc import Callable
from typing import Any

from model_handler.errors import EngineError

log = logging.getLogger(__name__)
STATUS = 1
BENIGN = OSError, EngineError, asyncio.CancelledError


def watch(loop: asyncio.AbstractEventLoop, end: Callable[[int], object] = os._exit) -> None:
    """Apply the rule to a loop. `end` is called with the exit status."""

    def handle(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        error = context.get("exception")
        if error is None or isinstance(error, BENIGN) or not _escaped(context):
            log.error(context["message"], exc_info=error)
            return
        try:
            log.critical("an error escaped", exc_info=error, extra={"reason": context["message"]})
        finally:
            end(STATUS)

    loop.set_exception_handler(handle)


def _escaped(context: dict[str, Any]) -> bool:
    """Whether the error comes from a callback or a task, and not from a protocol."""
    task = context.get("task", context.get("future"))
    return "handle" in context or isinstance(task, asyncio.Task)
