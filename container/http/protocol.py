"""One client connection: parses requests with httptools and writes answers; runs in uvicorn's server.

Invariant: of request lines, headers, chunk framing and trailers at most MAX_HEAD_NBYTES and one read of
the socket are held. Reading pauses when MAX_PIPELINED requests wait, and while more than MAX_UNREAD_NBYTES
have arrived of a body that is not read yet. Answers leave in the order of their requests.
"""

import asyncio
import logging
import math
from collections import deque
from collections.abc import Callable, Coroutine
from typing import Any, cast

import httptools
import uvicorn
from uvicorn.server import ServerState

from container.http import responses
from container.http.connection_timer import ConnectionTimer
from container.http.error_replies import ErrorReply, HeadTimeout, HeadTooLarge, MalformedRequest
from container.http.request import Request
from container.http.responses import Response

log = logging.getLogger(__name__)
MAX_HEAD_NBYTES = 64 << 10
MAX_PIPELINED = 16
MAX_UNREAD_NBYTES = 64 << 10
MAX_DISCARDED_NBYTES = 256 << 20  # of a body that arrives after its request was answered
PARSED_NBYTES = 16 << 10  # parsed at a time: a read of 256 KiB can hold thousands of requests
NOT_HTTP = "not an HTTP request"

Application = Callable[[Request], Coroutine[Any, Any, None]]


class HttpConnection(asyncio.Protocol):
    """The application is called once per request and answers it with `Request.answer`. What is not a
    request reaches it too: as a Request whose `error` is set, or whose body fails."""

    head_timeout_s = 30.0
    discard_timeout_s = 10.0

    def __init__(
        self,
        config: uvicorn.Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        self._app = cast("Application", config.loaded_app)
        self._keep_alive_s = config.timeout_keep_alive
        self._server = server_state
        self._loop = _loop or asyncio.get_running_loop()
        self._timer = ConnectionTimer(self._loop, self._expired)
        self._transport: asyncio.Transport
        # ---- the head that is arriving ----
        self._parser = httptools.HttpRequestParser(self)
        self._url = b""
        self._headers: list[tuple[bytes, bytes]] = []
        self._framing_nbytes = 0  # received since the last head or piece of a body was complete
        # ---- requests: one is arriving, others wait, one is running ----
        self._arriving: Request | None = None
        self._waiting: deque[Request] = deque()
        self._running: Request | None = None
        self._unparsed: memoryview | None = None  # held back while too many requests wait
        # ---- the state of the connection ----
        self._ended = False  # further data is ignored
        self._stopping = False
        self._reading = True
        self._congested = False  # the client does not read its answers
        self._closes = False  # once the rest of an answered request has been discarded
        self._date_of: list[tuple[bytes, bytes]] = []
        self._date = b""

    # ---- the transport ----

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._server.connections.add(cast("Any", self))
        self._timer.set(self.head_timeout_s)

    def connection_lost(self, exc: Exception | None) -> None:
        self._server.connections.discard(cast("Any", self))
        self._timer.cancel()
        self._ended = True
        self._waiting.clear()
        del self._parser  # it refers to this object
        if self._running is not None:
            self._running.disconnected()

    def pause_writing(self) -> None:
        self._congested = True

    def resume_writing(self) -> None:
        self._congested = False
        self._advance()

    def data_received(self, data: bytes) -> None:
        if self._ended:
            return
        if len(data) <= PARSED_NBYTES and len(self._waiting) < MAX_PIPELINED:
            self._parse(data)
        else:
            self._parse_in_parts(memoryview(data))
        if self._framing_nbytes and self._arriving is None and self._running is None:
            self._timer.shorten(self.head_timeout_s)

    def _parse_in_parts(self, data: memoryview) -> None:
        while data and not self._ended:
            if len(self._waiting) >= MAX_PIPELINED:
                self._unparsed = data
                self._pause_reading()
                return
            self._parse(data[:PARSED_NBYTES])
            data = data[PARSED_NBYTES:]

    def _parse(self, data: bytes | memoryview) -> None:
        self._framing_nbytes += len(data)
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade as upgrade:
            self._decline_upgrade(bytes(data[upgrade.args[0] :]))
        except httptools.HttpParserError as error:
            cause = error.__context__
            self._refuse(cause if isinstance(cause, ErrorReply) else MalformedRequest(NOT_HTTP))
        if self._framing_nbytes > MAX_HEAD_NBYTES and not self._ended:
            self._refuse(_head_too_large())

    # ---- the parser's callbacks ----

    def on_url(self, url: bytes) -> None:
        self._url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        self._headers.append((name.lower(), value))

    def on_headers_complete(self) -> None:
        parser = self._parser
        if self._framing_nbytes > MAX_HEAD_NBYTES and self._head_nbytes() > MAX_HEAD_NBYTES:
            raise _head_too_large()
        if parser.should_upgrade():
            return  # the parser takes the body for another protocol: see _decline_upgrade
        version = parser.get_http_version()
        headers = dict(reversed(self._headers))
        if version == "1.0" and b"transfer-encoding" in headers:
            raise MalformedRequest("HTTP/1.0 has no Transfer-Encoding")
        url = httptools.parse_url(self._url)
        request = self._arriving = Request(
            self,
            parser.get_method().decode("ascii"),
            url.path or b"",
            url.query or b"",
            headers,
            keep_alive=version != "1.0" and parser.should_keep_alive(),
        )
        self._url, self._headers, self._framing_nbytes = b"", [], 0
        self._accept(request)

    def _head_nbytes(self) -> int:
        return len(self._url) + sum(len(name) + len(value) + 4 for name, value in self._headers)

    def on_body(self, piece: bytes) -> None:
        request = self._arriving
        if request is None:
            return  # of an upgrade: see _decline_upgrade
        self._framing_nbytes = 0
        request.receive(piece)
        if request.answered:
            request.discard()
            if request.nbytes > MAX_DISCARDED_NBYTES:
                self._close()
        elif request.unread and request.nbytes > MAX_UNREAD_NBYTES:
            self._pause_reading()

    def on_message_complete(self) -> None:
        request = self._arriving
        if request is None:
            return  # of an upgrade: see _decline_upgrade
        self._framing_nbytes = 0
        self._arriving = None
        request.finish()
        if request.answered:
            self._next(close=self._closes)
        elif not self._reading:
            self._resume_reading()  # also to notice that the client leaves

    # ---- from request to answer ----

    def _accept(self, request: Request) -> None:
        if self._running is None and not self._waiting and not self._congested:
            self._start(request)
        else:
            self._waiting.append(request)

    def _start(self, request: Request) -> None:
        self._running = request
        self._timer.deadline = math.inf
        tasks = self._server.tasks
        task = request.task = self._loop.create_task(self._app(request))
        tasks.add(task)
        task.add_done_callback(self._done)

    def _done(self, task: "asyncio.Task[None]") -> None:
        self._server.tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            log.critical("request not answered", exc_info=error)
            self._transport.abort()  # the client must not wait for an answer

    def await_body(self, request: Request) -> None:
        if request.awaits_continue:
            request.awaits_continue = False
            self._transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        if not self._reading:
            self._resume_reading()

    def answer(self, request: Request, response: Response) -> None:
        if request.gone or request.answered:
            return
        held_back = request.awaits_continue
        last = (self._ended or self._stopping) and not self._waiting
        close = response.close or not request.keep_alive or held_back or last
        head = request.method == "HEAD"
        self._transport.write(responses.render(response, self._dated(), close=close, head=head))
        request.answered = True
        self._running = None
        self._server.total_requests += 1
        if self._arriving is request and not held_back and not self._ended:
            self._discard_rest(request, close=close)
        else:
            self._next(close=close)

    def _dated(self) -> bytes:
        """The headers that uvicorn renews every second."""
        defaults = self._server.default_headers
        if defaults is not self._date_of:
            self._date_of = defaults
            self._date = b"".join(b"%b: %b\r\n" % header for header in defaults)
        return self._date

    def _discard_rest(self, request: Request, *, close: bool) -> None:
        """Read the rest of the body before anything else, within bounds: a connection that is closed with
        unread data is reset, and the client would lose the answer."""
        self._closes = close
        request.discard()
        self._timer.set(self.discard_timeout_s)
        self._resume_reading()

    def _next(self, *, close: bool) -> None:
        if close:
            self._close()
            return
        if self._waiting or not self._reading:
            self._advance()
        if self._running is not None:
            return
        begun = self._arriving is None and (self._framing_nbytes > 0 or self._url != b"")
        timer = self._timer
        timer.deadline = self._loop.time() + (self.head_timeout_s if begun else self._keep_alive_s)
        if timer.deadline < timer.fires_at:
            timer.restart()

    def _advance(self) -> None:
        """Start the next request, and read on where there is room."""
        if self._running is None and self._waiting and not self._congested:
            self._start(self._waiting.popleft())
        if self._reading:
            return
        if self._unparsed is not None and len(self._waiting) < MAX_PIPELINED:
            data, self._unparsed = self._unparsed, None
            self._parse_in_parts(data)
        arriving = self._arriving
        if arriving is None or not arriving.unread or arriving.nbytes <= MAX_UNREAD_NBYTES:
            self._resume_reading()

    def _pause_reading(self) -> None:
        if self._reading:
            self._reading = False
            self._transport.pause_reading()

    def _resume_reading(self) -> None:
        if not self._reading and self._unparsed is None and not self._transport.is_closing():
            self._reading = True
            self._transport.resume_reading()

    # ---- refused requests ----

    def _decline_upgrade(self, rest: bytes) -> None:
        """Serve the request without the upgrade: clients that prefer HTTP/2 send requests like this."""
        method = self._parser.get_method()
        if method == b"CONNECT":
            self._refuse(MalformedRequest("this is not a proxy"))
            return
        headers = [header for header in self._headers if header[0] != b"upgrade"]
        lines = [b"%b %b HTTP/1.1\r\n" % (method, self._url), *(b"%b: %b\r\n" % h for h in headers)]
        self._parser = httptools.HttpRequestParser(self)
        self._url, self._headers = b"", []
        self._parse(b"".join([*lines, b"\r\n", rest]))

    def _refuse(self, error: ErrorReply) -> None:
        """Answer with the error after all earlier answers, then close."""
        self._ended = True
        self._unparsed = None
        request, self._arriving = self._arriving, None
        if request is None:
            self._accept(Request(self, raw_path=self._url, error=error))
        elif request.answered:
            self._close()
        else:
            request.fail(error)

    # ---- the end ----

    def _expired(self) -> None:
        if self._url and not self._congested and not self._ended:
            self._refuse(HeadTimeout(f"no complete request head within {self.head_timeout_s:g} s"))
        else:
            self._close()

    def _close(self) -> None:
        """Close after everything that was written has been sent."""
        self._ended = True
        self._waiting.clear()
        self._transport.close()

    def shutdown(self) -> None:
        """Called by uvicorn's server: close, after the answers to requests that have arrived."""
        if self._running is None and not self._waiting:
            self._close()
        else:
            self._stopping = True


def _head_too_large() -> HeadTooLarge:
    return HeadTooLarge(f"request line and headers exceed {MAX_HEAD_NBYTES} bytes")
