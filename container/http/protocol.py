"""uvicorn's HTTP protocol with bounds on what is not a body, and errors that are JSON.

Always true: of request lines, headers, chunk framing and trailers no more than `MAX_HEAD_NBYTES` and one
read of the socket is ever held, and no connection waits longer than `head_timeout_s` for a head.
"""

import asyncio
from typing import Any

import httptools
from uvicorn.protocols.http.httptools_impl import (
    STATUS_LINE,
    HttpToolsProtocol,
    RequestResponseCycle,
)

from container.http import responses
from container.http.error_replies import ErrorReply, HeadTooLarge, MalformedRequest

MAX_HEAD_NBYTES = 64 << 10
MAX_PIPELINED = 16
NOT_HTTP = "not an HTTP request"


class BoundedHttpProtocol(HttpToolsProtocol):
    head_timeout_s = 30.0

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._framing_nbytes = 0  # received since the last head or piece of a body was complete
        self._in_head = True
        self._head_timer: asyncio.TimerHandle | None = None
        self._running: RequestResponseCycle | None = None
        self._deaf = False  # what follows on this connection cannot be understood

    # ---- bounds ----

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._await_head()

    def data_received(self, data: bytes) -> None:
        if self._deaf:
            return
        self._framing_nbytes += len(data)
        self._unset_keepalive_if_required()
        self._feed(data)
        if self._framing_nbytes > MAX_HEAD_NBYTES and not self._deaf:
            self._refuse(_head_too_large())
        elif self._in_head and self._framing_nbytes:
            self._await_head()

    def _feed(self, data: bytes) -> None:
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade as upgrade:
            self._decline_upgrade(data[upgrade.args[0] :])
        except httptools.HttpParserError as error:
            cause = error.__context__
            self._refuse(cause if isinstance(cause, ErrorReply) else MalformedRequest(NOT_HTTP))

    def on_headers_complete(self) -> None:
        if self._framing_nbytes > MAX_HEAD_NBYTES and self._head_nbytes() > MAX_HEAD_NBYTES:
            raise _head_too_large()
        if len(self.pipeline) >= MAX_PIPELINED:
            raise MalformedRequest(f"more than {MAX_PIPELINED} pipelined requests")
        if self.parser.should_upgrade():
            return  # the parser takes the body for another protocol: see _decline_upgrade
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
        if self.parser.should_upgrade():
            return
        self._framing_nbytes = 0
        self._in_head = True
        super().on_message_complete()

    def _await_head(self) -> None:
        if self._head_timer is None:
            self._head_timer = self.loop.call_later(self.head_timeout_s, self._head_timed_out)

    def _head_timed_out(self) -> None:
        self._head_timer = None
        if self._running is None or self._running.response_complete:
            self.transport.close()

    def _stop_head_timer(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None

    # ---- what cannot be served ----

    def _decline_upgrade(self, rest: bytes) -> None:
        """Serve the request as if it had not asked: clients that prefer HTTP/2 send theirs this way."""
        method = self.parser.get_method()
        if method == b"CONNECT":
            self._refuse(MalformedRequest("this is not a proxy"))
            return
        headers = [header for header in self.headers if header[0] != b"upgrade"]
        start = b"%b %b HTTP/1.1\r\n" % (method, self.url)
        self.parser = httptools.HttpRequestParser(self)
        self._feed(b"".join([start, *map(_line, headers), b"\r\n", rest]))

    def _refuse(self, refusal: ErrorReply) -> None:
        """End the connection; an answer that is still due for an earlier request comes first."""
        self._deaf = True
        self._stop_head_timer()
        cycle = self.cycle
        if cycle is not None and not cycle.response_complete and not cycle.more_body:
            cycle.keep_alive = False
            return
        if cycle is None or cycle.response_complete or not cycle.response_started:
            self.transport.write(_rendered(refusal))
        self.transport.close()

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


def _rendered(refusal: ErrorReply) -> bytes:
    response = responses.error(refusal)
    lines = map(_line, responses.head(response))
    return b"".join([STATUS_LINE[response.status], *lines, b"\r\n", response.body])


def _line(header: tuple[bytes, bytes]) -> bytes:
    return b"%b: %b\r\n" % header
