"""Requests that never reach the engine. Statuses live in container.responses.

ErrorReply
├── RouteNotFound       nothing is served at this path
├── MethodNotAllowed    something is, but not with this method
├── MalformedRequest    not HTTP
├── HeadTooLarge        request line and headers beyond what a caller can mean
├── BodyTooLarge
└── BodyTimeout         the body did not arrive in time
"""

from collections.abc import Iterable


class ErrorReply(Exception):
    """`str(refusal)` is one line that may be shown to the caller."""


class RouteNotFound(ErrorReply):
    pass


class MethodNotAllowed(ErrorReply):
    def __init__(self, method: str, allowed: Iterable[str]) -> None:
        self.allow = ", ".join(sorted(allowed))
        super().__init__(f"{method} is not allowed here; allowed: {self.allow}")


class MalformedRequest(ErrorReply):
    pass


class HeadTooLarge(ErrorReply):
    pass


class BodyTooLarge(ErrorReply):
    pass


class BodyTimeout(ErrorReply):
    pass


class ClientGone(Exception):
    """Nobody is left to answer."""
