"""Errors that are answered without the engine. Their statuses are in container.http.responses.

ErrorReply
├── RouteNotFound       nothing is served at this path
├── MethodNotAllowed    the path does not support this method
├── MalformedRequest    not HTTP
├── ForeignPeer         the peer may not use this port
├── HeadTooLarge        request line and headers exceed the limit
├── HeadTimeout         request line and headers did not arrive in time
├── BodyTooLarge
└── BodyTimeout         the body did not arrive in time
"""

from collections.abc import Iterable


class ErrorReply(Exception):
    """`str(error)` is one line that may be shown to the caller."""


class RouteNotFound(ErrorReply):
    pass


class MethodNotAllowed(ErrorReply):
    def __init__(self, method: str, allowed: Iterable[str]) -> None:
        self.allow = ", ".join(sorted(allowed))
        super().__init__(f"{method} is not allowed here; allowed: {self.allow}")


class MalformedRequest(ErrorReply):
    pass


class ForeignPeer(ErrorReply):
    pass


class HeadTooLarge(ErrorReply):
    pass


class HeadTimeout(ErrorReply):
    pass


class BodyTooLarge(ErrorReply):
    pass


class BodyTimeout(ErrorReply):
    pass


class ClientGone(Exception):
    """The client closed the connection: no answer can be sent."""
