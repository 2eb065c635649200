"""One HTTP request: what routes read of it, and what the log says about it."""

from collections.abc import Awaitable
from typing import TypeVar

from container.asgi import Receive, Scope
from container.http.body import Body, BodyLimit, while_connected

TARGET_MODEL = b"x-amzn-sagemaker-target-model"
INFERENCE_ID = b"x-amzn-sagemaker-inference-id"
MAX_TARGET_CHARS = 1024  # what the platform's API allows
T = TypeVar("T")


class Request:
    __slots__ = ("_body", "_receive", "headers", "method", "model", "nbytes", "query", "raw_path")

    def __init__(self, scope: Scope, receive: Receive) -> None:
        self._receive = receive
        self._body = Body(receive)
        self.method: str = scope["method"]
        self.raw_path: bytes = scope["raw_path"]
        self.query: bytes = scope["query_string"]
        # The first of repeated headers counts.
        self.headers: dict[bytes, bytes] = dict(reversed(scope["headers"]))
        self.model: str | None = None  # the one it is about, once known
        self.nbytes = 0  # of the body, once read

    def header(self, name: bytes) -> str | None:
        value = self.headers.get(name)
        return None if value is None else value.decode("latin-1")

    @property
    def target(self) -> str | None:
        """The caller's TargetModel: names the model for people, never decides on a named route."""
        target = self.header(TARGET_MODEL)
        return target if target and len(target) <= MAX_TARGET_CHARS else None

    async def read(self, limit: BodyLimit) -> bytes:
        """The whole body. Raises BodyTooLarge, BodyTimeout, ClientGone."""
        content = await self._body.read(self.headers, limit)
        self.nbytes = len(content)
        return content

    async def while_connected(self, work: Awaitable[T]) -> T:
        """What `work` returns. Raises ClientGone when the client leaves first."""
        return await while_connected(self._receive, work)

    @property
    def awaits_continue(self) -> bool:
        """The client holds its body back, and may or may not send it after a final answer."""
        return self._body.more and b"expect" in self.headers

    async def drain(self) -> None:
        """Discard what is left of the body, unless the client holds it back."""
        if not self.awaits_continue:
            await self._body.drain()
