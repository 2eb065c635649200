"""Requests that never reach the engine. Statuses live in container.responses.

Refusal
├── RouteNotFound       nothing is served at this path
├── MethodNotAllowed    something is, but not with this method
├── MalformedRequest    not HTTP
├── HeadTooLarge        request line and headers beyond what a caller can mean
├── BodyTooLarge
└── BodyTimeout         the body did not arrive in time
"""

from collections.abc import Iterable


class Refusal(Exception):
    """`str(refusal)` is one line that may be shown to the caller."""


class RouteNotFound(Refusal):
    pass


class MethodNotAllowed(Refusal):
    def __init__(self, method: str, allowed: Iterable[str]) -> None:
        self.allow = ", ".join(sorted(allowed))
        super().__init__(f"{method} is not allowed here; allowed: {self.allow}")


class MalformedRequest(Refusal):
    pass


class HeadTooLarge(Refusal):
    pass


class BodyTooLarge(Refusal):
    pass


class BodyTimeout(Refusal):
    pass


class ClientGone(Exception):
    """Nobody is left to answer."""
