"""uvicorn's HTTP protocol with bounds on what is not a body, and errors that are JSON.

Always true: of request lines, headers, chunk framing and trailers no more than `MAX_HEAD_NBYTES` and one
read of the socket is ever held, and no connection waits longer than `HEAD_TIMEOUT_S` for a head.
"""

import asyncio
from typing import Any

from uvicorn.protocols.http.httptools_impl import (
    STATUS_LINE,
    HttpToolsProtocol,
    RequestResponseCycle,
)

from container import responses
from container.refusals import HeadTooLarge, MalformedRequest, Refusal

MAX_HEAD_NBYTES = 64 << 10
HEAD_TIMEOUT_S = 30.0
MAX_PIPELINED = 16


class _TooMuch(Exception):
    """Raised inside the parser, which reports it as its own error."""


class BoundedHttpProtocol(HttpToolsProtocol):
    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._framing_nbytes = 0  # received since the last head or piece of a body was complete
        self._in_head = True
        self._head_timer: asyncio.TimerHandle | None = None
        self._running: RequestResponseCycle | None = None
        self._deaf = False  # what follows on this connection cannot be understood
        self._refusal: Refusal = MalformedRequest("not an HTTP request")

    # ---- bounds ----

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._await_head()

    def data_received(self, data: bytes) -> None:
        if self._deaf:
            return
        self._framing_nbytes += len(data)
        super().data_received(data)
        if self._framing_nbytes > MAX_HEAD_NBYTES and not self._deaf:
            self._refusal = _head_too_large()
            self.send_400_response("")
        elif self._in_head and self._framing_nbytes:
            self._await_head()

    def on_headers_complete(self) -> None:
        if self._framing_nbytes > MAX_HEAD_NBYTES and self._head_nbytes() > MAX_HEAD_NBYTES:
            self._refusal = _head_too_large()
            raise _TooMuch
        if len(self.pipeline) >= MAX_PIPELINED:
            self._refusal = MalformedRequest(f"more than {MAX_PIPELINED} pipelined requests")
            raise _TooMuch
        self._framing_nbytes = 0
        self._in_head = False
        self._stop_head_timer()
        super().on_headers_complete()

    def _head_nbytes(self) -> int:
        return len(self.url) + sum(len(name) + len(value) + 4 for name, value in self.headers)

    def on_body(self, body: bytes) -> None:
        self._framing_nbytes = 0
        super().on_body(body)

    def on_message_complete(self) -> None:
        self._framing_nbytes = 0
        self._in_head = True
        super().on_message_complete()

    def _await_head(self) -> None:
        if self._head_timer is None:
            self._head_timer = self.loop.call_later(HEAD_TIMEOUT_S, self._head_timed_out)

    def _head_timed_out(self) -> None:
        self._head_timer = None
        if self._running is None or self._running.response_complete:
            self.transport.close()

    def _stop_head_timer(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None

    # ---- errors ----

    def send_400_response(self, msg: str) -> None:
        """Refuse what cannot be parsed; an answer that is still due for an earlier request comes first."""
        self._deaf = True
        self._stop_head_timer()
        cycle = self.cycle
        if cycle is not None and not cycle.response_complete and not cycle.more_body:
            cycle.keep_alive = False
            return
        if cycle is None or cycle.response_complete or not cycle.response_started:
            self.transport.write(_rendered(self._refusal))
        self.transport.close()

    def _unsupported_upgrade_warning(self) -> None:
        """The request is served as if it had not asked; what follows it is in no known protocol."""
        self._deaf = True
        if self.cycle is not None:
            self.cycle.keep_alive = False

    # ---- disconnects reach the request that is running, also behind pipelined ones ----

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: Any) -> None:
        self._running = cycle
        super()._start_asgi_task(cycle, app)

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_head_timer()
        if self._running is not None and not self._running.response_complete:
            self._running.disconnected = True
            self._running.message_event.set()
        super().connection_lost(exc)


def _head_too_large() -> HeadTooLarge:
    return HeadTooLarge(f"request line and headers exceed {MAX_HEAD_NBYTES} bytes")


def _rendered(refusal: Refusal) -> bytes:
    response = responses.refusal(refusal)
    lines = [b"%s: %s\r\n" % header for header in responses.head(response)]
    return b"".join([STATUS_LINE[response.status], *lines, b"\r\n", response.body])
