"""HTTP as bytes on a socket, for requests that HTTP clients refuse to send."""

import json
import socket
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

TIMEOUT_S = 10.0


@dataclass(frozen=True)
class RawResponse:
    status: int
    headers: list[tuple[str, str]]
    body: bytes

    def header(self, name: str) -> str | None:
        return dict(self.headers).get(name)

    def json(self) -> Any:
        return json.loads(self.body)


class RawClient:
    def __init__(self, port: int) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port), timeout=TIMEOUT_S)
        self._file = self._socket.makefile("rb")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        tb: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        self._file.close()
        self._socket.close()

    def send(self, *parts: bytes) -> None:
        self._socket.sendall(b"".join(parts))

    def send_until_refused(self, chunk: bytes, nbytes: int) -> int:
        """Send up to `nbytes`; return the number of bytes sent before the server closed the connection."""
        sent = 0
        try:
            while sent < nbytes:
                self._socket.sendall(chunk)
                sent += len(chunk)
        except (BrokenPipeError, ConnectionResetError):
            pass
        return sent

    def request(self, method: str, path: str, *headers: str, body: bytes = b"") -> RawResponse:
        self.send(head(method, path, f"Content-Length: {len(body)}", *headers), body)
        return self.response(bodiless=method == "HEAD")

    def response(self, *, bodiless: bool = False) -> RawResponse:
        status = int(self._file.readline().split()[1])
        headers = []
        while line := self._file.readline().strip():
            name, _, value = line.decode("latin-1").partition(":")
            headers.append((name.lower(), value.strip()))
        length = 0 if bodiless or status == 100 else int(dict(headers)["content-length"])
        return RawResponse(status, headers, self._file.read(length))

    def closed(self) -> bool:
        """Wait for more bytes. True if the server closed the connection instead."""
        try:
            return self._file.read(1) == b""
        except ConnectionResetError:
            return True


def head(method: str, path: str, *headers: str) -> bytes:
    lines = [f"{method} {path} HTTP/1.1", "Host: test", *headers, "", ""]
    return "\r\n".join(lines).encode("latin-1")
