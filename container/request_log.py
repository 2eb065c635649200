"""One line of log per answered request.

Invariant: both ways of writing it give the same JSON line; the short one skips what `logging` does for
records of any shape.
"""

import logging
import os
import time
from datetime import UTC, datetime

import msgspec

from container.http.request import Request
from container.http.responses import Response

log = logging.getLogger(__name__)
CLIENT_GONE = 499  # never sent: the status of requests whose client left before the answer
_encode = msgspec.json.Encoder().encode


class LogLine(msgspec.Struct, kw_only=True, omit_defaults=True):
    """In the order of the fields that `model_handler.logs.JsonFormatter` writes."""

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
    """`descriptor`: a file that takes JSON lines as they are; without it they go through `logging`."""

    def __init__(self, descriptor: int | None = None) -> None:
        self._descriptor = descriptor

    def write(
        self, request: Request, route: str | None, response: Response | None, began: float
    ) -> None:
        """`began`: of `time.perf_counter`."""
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
        except OSError:  # as in `logging`: a log that cannot be written must not cost the request
            return


def _printable(line: LogLine) -> bool:
    """Whether the values that a client chose need no escapes beyond JSON's."""
    return (line.model or "").isprintable() and (line.target or "").isprintable()


def _facts(line: LogLine) -> dict[str, object]:
    names = line.__struct_fields__[4:]
    return {name: getattr(line, name) for name in names}
