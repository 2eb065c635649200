"""One HTTP request: what routes read of it, its body while it arrives, and the connection for its answer.

Invariant: a body that is being read holds at most its limit and one read of the socket.
"""

import asyncio
from collections.abc import Mapping
from typing import Protocol

import msgspec

from container.http.body_budget import CHUNKED_NBYTES, SMALL_NBYTES, BodyBudget, BodyShare
from container.http.error_replies import BodyTimeout, BodyTooLarge, ClientGone, ErrorReply
from container.http.responses import Response
from model_handler.errors import QueueFull

TARGET_MODEL = b"x-amzn-sagemaker-target-model"
INFERENCE_ID = b"x-amzn-sagemaker-inference-id"
MAX_TARGET_CHARS = 1024  # the limit of the platform's API


class BodyLimit(msgspec.Struct, frozen=True):
    """`seconds`: from the call of `read` to the last byte. `budget`: of all bodies; None: not counted."""

    nbytes: int
    seconds: float
    budget: BodyBudget | None = None


class ClientConnection(Protocol):
    """The connection that a request came from."""

    def answer(self, request: "Request", response: Response) -> None:
        """Send the response. Does nothing if the client has gone."""

    def await_body(self, request: "Request") -> None:
        """Let the client send the rest of the body."""


class Request:
    """`error`: why it cannot be served at all; a head that could not be read has no method and no path.

    `model`: set by the route. `invoking`: set before the engine invokes, which counts the outcome; then the
    end of the connection cancels the request. `complete`: all of the body has arrived, of which `nbytes` so
    far. `unread`: `read` was not called yet. `awaits_continue`: the client waits for 100 Continue, and may or
    may not send its body after a final answer.
    """

    __slots__ = (
        "_arrival",
        "_failure",
        "_limit_nbytes",
        "_pieces",
        "_share",
        "answered",
        "awaits_continue",
        "complete",
        "connection",
        "error",
        "gone",
        "headers",
        "invoking",
        "keep_alive",
        "method",
        "model",
        "nbytes",
        "query",
        "raw_path",
        "task",
        "unread",
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
        self.connection = connection
        self.method = method
        self.raw_path = raw_path
        self.query = query
        self.headers: Mapping[bytes, bytes] = headers or {}  # of repeated ones the first
        self.keep_alive = keep_alive
        self.error = error
        self.task: asyncio.Task[None] | None = None  # which answers it
        self.model: str | None = None
        self.invoking = False
        self.answered = False
        self.gone = False  # the client closed the connection
        # ---- the body ----
        self.complete = False
        self.nbytes = 0
        self.unread = True
        self.awaits_continue = self.headers.get(b"expect", b"").lower() == b"100-continue"
        self._pieces: list[bytes] = []
        self._limit_nbytes = 0
        self._share: BodyShare | None = None  # of the budget of all bodies
        self._arrival: asyncio.Future[None] | None = None
        self._failure: Exception | None = None

    # ---- the connection's side ----

    def receive(self, piece: bytes) -> None:
        self.nbytes += len(piece)
        if not self.unread and (self.nbytes > self._limit_nbytes or self._failure is not None):
            self.discard()
            self._wake()
        elif self._share is not None and self.nbytes > self._share.nbytes and not self._grow():
            self.fail(QueueFull("request bodies hold all bytes of MME_BODY_MEMORY"))
        else:
            self._pieces.append(piece)

    def _grow(self) -> bool:
        """A body of unknown length is longer than what was admitted."""
        return self._share is None or self._share.resize(self._limit_nbytes)

    def finish(self) -> None:
        """The whole body has arrived."""
        self.complete = True
        self.awaits_continue = False
        if self._share is not None:
            self._share.resize(self.nbytes)
        self._wake()

    def fail(self, error: Exception) -> None:
        """No more will arrive: `read` raises `error`."""
        self._failure = error
        self._wake()

    def discard(self) -> None:
        """Free what arrived."""
        self._pieces = []

    def disconnected(self) -> None:
        """The client has left: end what runs for it alone."""
        self.gone = True
        self.fail(ClientGone())
        if self.invoking and self.task is not None:
            self.task.cancel()

    def release(self) -> None:
        """The request was answered: its body is freed and no longer counts. Without this it would be freed by
        garbage collection, since connection, request and task refer to each other."""
        self._pieces = []
        if self._share is not None:
            self._share.release()

    def _wake(self) -> None:
        if self._arrival is not None and not self._arrival.done():
            self._arrival.set_result(None)

    # ---- the route's side ----

    def header(self, name: bytes) -> str | None:
        value = self.headers.get(name)
        return None if value is None else value.decode("latin-1")

    @property
    def target(self) -> str | None:
        """The caller's TargetModel. On routes whose path names a model it is for the log only."""
        target = self.header(TARGET_MODEL)
        return target if target and len(target) <= MAX_TARGET_CHARS else None

    async def read(self, limit: BodyLimit) -> bytes:
        """The whole body. Raises BodyTooLarge before a body that is declared too long is sent; BodyTimeout,
        ClientGone, or the error that ended the connection."""
        declared = self._declared(limit)
        if limit.budget is not None and declared > SMALL_NBYTES:
            self._share = await limit.budget.admit(self, self.model or self.target or "", declared)
        self.unread, self._limit_nbytes = False, limit.nbytes
        if not self.complete and self._failure is None:
            self.connection.await_body(self)
        if not self.complete and self.nbytes <= limit.nbytes and self._failure is None:
            self._arrival = asyncio.get_running_loop().create_future()
            try:
                async with asyncio.timeout(limit.seconds):
                    await self._arrival  # complete, over the limit, or failed
            except TimeoutError:
                message = f"the body did not arrive within {limit.seconds:g} s"
                raise BodyTimeout(message) from None
            finally:
                self._arrival = None
        if self._failure is not None:
            raise self._failure
        if self.nbytes > limit.nbytes:
            raise _too_large(limit)
        pieces, self._pieces = self._pieces, []
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def _declared(self, limit: BodyLimit) -> int:
        """Bytes of the body, as far as they are known now."""
        if self.complete:
            return self.nbytes
        declared = self.headers.get(b"content-length")
        if declared is None:
            return CHUNKED_NBYTES
        if int(declared) > limit.nbytes:
            raise _too_large(limit)
        return int(declared)


def _too_large(limit: BodyLimit) -> BodyTooLarge:
    return BodyTooLarge(f"the body is larger than {limit.nbytes} bytes")
