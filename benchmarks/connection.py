"""A keep-alive HTTP connection with at most one request in flight. Minimal, to save client CPU time."""

import asyncio
from collections.abc import Callable

import httptools

LOST = 0  # instead of a status: the connection was closed before the response
RequestDone = Callable[["Connection", int], None]


def request(method: str, path: str, body: bytes, **headers: str) -> bytes:
    """The bytes of a complete request."""
    fields = {"Host": "127.0.0.1", "Content-Type": "application/json", **headers}
    lines = [f"{method} {path} HTTP/1.1", *(f"{name}: {value}" for name, value in fields.items())]
    return "\r\n".join([*lines, f"Content-Length: {len(body)}", "", ""]).encode() + body


class Connection(asyncio.Protocol):
    """`done` is called once per request sent, with the status or LOST."""

    def __init__(self, done: RequestDone) -> None:
        self._done = done
        self._transport: asyncio.Transport | None = None
        self._busy = False
        self._parser = httptools.HttpResponseParser(self)

    @property
    def open(self) -> bool:
        return self._transport is not None

    def send(self, payload: bytes) -> None:
        """Requires an open connection without a request in flight."""
        assert self._transport is not None
        assert not self._busy
        self._busy = True
        self._parser = httptools.HttpResponseParser(self)
        self._transport.write(payload)

    def close(self) -> None:
        self._busy = False
        if self._transport is not None:
            self._transport.close()

    # ---- called by the event loop and the parser ----

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError:
            self.close()
            self._answer(LOST)

    def on_message_complete(self) -> None:
        self._answer(self._parser.get_status_code())

    def connection_lost(self, error: Exception | None) -> None:
        self._transport = None
        if self._busy:
            self._answer(LOST)

    def _answer(self, status: int) -> None:
        self._busy = False
        self._done(self, status)


async def connect(port: int, done: RequestDone) -> Connection:
    loop = asyncio.get_running_loop()
    _, connection = await loop.create_connection(lambda: Connection(done), "127.0.0.1", port)
    return connection
