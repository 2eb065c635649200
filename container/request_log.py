"""One log line per answer.

There are two ways to write it: directly as JSON, or through `logging`, which is slower. Invariant: both write
the same JSON line.
"""

import logging
import os
import time
from datetime import UTC, datetime

import msgspec

from container.http.request import Request
from container.http.responses import Response

log = logging.getLogger(__name__)
CLIENT_GONE = 499  # logged but never sent: the client disconnected before the answer
_encode = msgspec.json.Encoder().encode


class LogLine(msgspec.Struct, kw_only=True, omit_defaults=True):
    """Fields in the order in which `model_handler.logs.JsonFormatter` writes them."""

    time: str
    level: str
    logger: str
    event: str
    method: str | None = None
    route: str | None = None
    model: str | None = None
    target: str | None = None
    status: int
    ms: float
    request_nbytes: int
    response_nbytes: int | None = None
    error: str | None = None


class RequestLog:
    """`descriptor`: file descriptor for JSON lines; None: use `logging`."""

    def __init__(self, descriptor: int | None = None) -> None:
        self._descriptor = descriptor

    def write(
        self, request: Request, route: str | None, response: Response | None, began: float
    ) -> None:
        """`began`: a time of `time.perf_counter`. `response`: None if the client has disconnected."""
        status = CLIENT_GONE if response is None else response.status
        level = logging.WARNING if status >= 500 else logging.INFO
        if not log.isEnabledFor(level):
            return
        line = LogLine(
            time=datetime.now(UTC).isoformat(timespec="milliseconds"),
            level="WARNING" if status >= 500 else "INFO",
            logger=__name__,
            event="request",
            method=request.method or None,
            route=route,
            model=request.model,
            target=request.target,
            status=status,
            ms=round((time.perf_counter() - began) * 1e3, 2),
            request_nbytes=request.nbytes,
        )
        if response is not None:
            line.response_nbytes = len(response.body)
            line.error = response.error
        if self._descriptor is None or not _printable(line):
            log.log(level, line.event, extra=_facts(line))
            return
        try:
            os.write(self._descriptor, _encode(line) + b"\n")
        except (
            OSError
        ):  # as in `logging`: the request succeeds even if its log line cannot be written
            return


def _printable(line: LogLine) -> bool:
    """Whether the values from the client need only JSON's escapes."""
    return (line.model or "").isprintable() and (line.target or "").isprintable()


def _facts(line: LogLine) -> dict[str, object]:
    names = line.__struct_fields__[4:]
    return {name: getattr(line, name) for name in names}
