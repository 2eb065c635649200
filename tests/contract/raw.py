"""HTTP written directly to a socket, for requests that an HTTP client would not send."""

import http.client
import socket
from collections.abc import Iterable, Mapping

from tests.contract.client import check_error

Address = tuple[str, int]
PATIENCE_S = 30.0


def connect(address: Address, *, timeout_s: float = PATIENCE_S) -> socket.socket:
    return socket.create_connection(address, timeout=timeout_s)


def head(method: str, path: str, fields: Mapping[str, object] | None = None) -> bytes:
    """A request head with the path exactly as given."""
    lines = [f"{method} {path} HTTP/1.1", "Host: test"]
    lines += [f"{name}: {value}" for name, value in (fields or {}).items()]
    return ("\r\n".join(lines) + "\r\n\r\n").encode("utf-8")


def post(path: str, body: bytes, content_type: str = "application/json") -> bytes:
    return head("POST", path, {"Content-Type": content_type, "Content-Length": len(body)}) + body


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


LAST_CHUNK = b"0\r\n\r\n"


class Answer:
    """A complete response: status, headers and body. Error responses must have the documented body."""

    def __init__(self, connection: socket.socket, method: str = "POST") -> None:
        response = http.client.HTTPResponse(connection, method=method)
        response.begin()
        self.status = response.status
        self.headers = response.headers
        self.body = response.read()
        if self.status >= 400 and method != "HEAD":
            check_error(self.status, self.headers["content-type"], self.body)


def exchange(address: Address, *parts: bytes, method: str = "POST") -> Answer:
    """Send the parts on a new connection and read the response."""
    with connect(address) as connection:
        for part in parts:
            connection.sendall(part)
        return Answer(connection, method)


def flood(connection: socket.socket, parts: Iterable[bytes]) -> bytes:
    """Send until the server accepts no more. Returns its response, which may be empty.

    A server that refuses early may close the connection while the client still writes; both are valid.
    """
    try:
        for part in parts:
            connection.sendall(part)
    except (BrokenPipeError, ConnectionResetError):
        pass
    try:
        return connection.recv(65536)
    except ConnectionResetError:
        return b""
