"""One HTTP request: what routes read of it, and the connection that its answer goes to."""

import asyncio
from collections.abc import Awaitable, Mapping
from typing import Protocol, TypeVar

from container.http.body import Body, BodyLimit, too_large
from container.http.error_replies import ClientGone, ErrorReply
from container.http.responses import Response

TARGET_MODEL = b"x-amzn-sagemaker-target-model"
INFERENCE_ID = b"x-amzn-sagemaker-inference-id"
MAX_TARGET_CHARS = 1024  # the limit of the platform's API
T = TypeVar("T")


class ClientConnection(Protocol):
    """The connection that a request came from."""

    def answer(self, request: "Request", response: Response) -> None:
        """Send the response. Does nothing if the client has gone."""

    def await_body(self, request: "Request") -> None:
        """Let the client send the rest of the body."""


class Request:
    """`error`: why it cannot be served at all; a head that could not be read has no method and no path."""

    __slots__ = (
        "_connection",
        "_task",
        "answered",
        "body",
        "continued",
        "counted",
        "error",
        "gone",
        "headers",
        "keep_alive",
        "method",
        "model",
        "query",
        "raw_path",
    )

    def __init__(
        self,
        connection: ClientConnection,
        method: str = "",
        raw_path: bytes = b"",
        query: bytes = b"",
        headers: Mapping[bytes, bytes] | None = None,
        *,
        keep_alive: bool = False,
        error: ErrorReply | None = None,
    ) -> None:
        self._connection = connection
        self._task: asyncio.Task[object] | None = None  # to cancel when the client leaves
        self.method = method
        self.raw_path = raw_path
        self.query = query
        self.headers: Mapping[bytes, bytes] = headers or {}  # of repeated ones the first
        self.keep_alive = keep_alive
        self.error = error
        self.body = Body()
        self.model: str | None = None  # set by the route
        self.answered = False
        self.continued = False  # 100 Continue was sent
        self.counted = False  # the engine counts its outcome
        self.gone = False  # the client closed the connection

    def header(self, name: bytes) -> str | None:
        value = self.headers.get(name)
        return None if value is None else value.decode("latin-1")

    @property
    def target(self) -> str | None:
        """The caller's TargetModel. On routes whose path names a model it is for the log only."""
        target = self.header(TARGET_MODEL)
        return target if target and len(target) <= MAX_TARGET_CHARS else None

    @property
    def awaits_continue(self) -> bool:
        """The client waits for 100 Continue, and may or may not send its body after a final answer."""
        if self.body.complete or self.continued:
            return False
        return self.headers.get(b"expect", b"").lower() == b"100-continue"

    async def read(self, limit: BodyLimit) -> bytes:
        """The whole body. Raises BodyTooLarge before a body that is declared too long is sent; BodyTimeout,
        ClientGone, or the error that ended the connection."""
        body = self.body
        if not body.complete:
            declared = self.headers.get(b"content-length")
            if declared is not None and int(declared) > limit.nbytes:
                raise too_large(limit)
            self._connection.await_body(self)
        return await body.read(limit)

    async def while_connected(self, work: Awaitable[T]) -> T:
        """The result of `work`. Raises ClientGone when the client leaves first; `work` is cancelled."""
        task = self._task = asyncio.current_task()
        try:
            return await work
        except asyncio.CancelledError:
            if not self.gone or task is None:
                raise
            task.uncancel()
            raise ClientGone from None
        finally:
            self._task = None

    def disconnected(self) -> None:
        """The client has left: end what runs for it alone."""
        self.gone = True
        self.body.fail(ClientGone())
        if self._task is not None:
            self._task.cancel()

    def answer(self, response: Response) -> None:
        self._connection.answer(self, response)
