"""uvicorn's server: the first signal starts a graceful shutdown, the second stops at once."""

import asyncio
import logging
import signal
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, suppress
from socket import socket
from types import FrameType
from typing import Any

import uvicorn

from container.engine import EngineInterface
from container.http import loop_failures
from container.http.protocol import HttpConnection
from model_handler.background import in_background

log = logging.getLogger(__name__)
KEEP_ALIVE_S = 75
GRACE_S = 1  # for answers that are being written when the server closes
STOP_S = 5.0  # of the drain timeout: kept for closing connections and stopping the workers


def configuration(
    app: Any, host: str, port: int, protocol: type[HttpConnection] = HttpConnection
) -> uvicorn.Config:
    """uvicorn with this container's protocol and logs, and without its automatic choices."""
    return uvicorn.Config(
        app,
        host=host,
        port=port,
        loop="uvloop",
        http=protocol,
        ws="none",
        lifespan="off",
        interface="asgi3",
        log_config=None,
        log_level="warning",
        access_log=False,
        proxy_headers=False,
        server_header=False,
        timeout_keep_alive=KEEP_ALIVE_S,
        timeout_graceful_shutdown=GRACE_S,
    )


class HttpServer(uvicorn.Server):
    """`running` is entered before the first connection and left after the last. `drain_timeout_s`: from the
    first signal to the end of the process, which exits 0."""

    def __init__(
        self,
        config: uvicorn.Config,
        engine: EngineInterface,
        running: AbstractAsyncContextManager[object],
        drain_timeout_s: float,
    ) -> None:
        super().__init__(config)
        self._engine = engine
        self._running = running
        self._drain_timeout_s = drain_timeout_s
        self._loop: asyncio.AbstractEventLoop | None = None
        self._draining: asyncio.Task[None] | None = None
        self._exit = AsyncExitStack()

    async def startup(self, sockets: list[socket] | None = None) -> None:
        self._loop = asyncio.get_running_loop()
        loop_failures.watch(self._loop)
        async with AsyncExitStack() as stack:
            await stack.enter_async_context(self._running)
            await super().startup(sockets)
            self._exit = stack.pop_all()

    async def shutdown(self, sockets: list[socket] | None = None) -> None:
        async with self._exit:
            await super().shutdown(sockets)
            if self.server_state.tasks:  # cancelled, and about to answer with 503
                await asyncio.wait(self.server_state.tasks, timeout=GRACE_S)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """uvicorn's own would raise the signal again at the end, and so change the exit status."""
        if self._loop is None:
            self.should_exit = True
        else:
            self.call_soon(self._stop, sig)

    def call_soon(self, callback: Callable[..., object], *arguments: object) -> None:
        """On the server's event loop, from any thread or signal handler, once it has started."""
        assert self._loop is not None
        self._loop.call_soon_threadsafe(callback, *arguments)

    def _stop(self, sig: int) -> None:
        log.info("stopping", extra={"signal": signal.Signals(sig).name})
        if self._draining is None:
            self._draining = in_background(self._drain())
        else:
            self.should_exit = True

    async def _drain(self) -> None:
        """Connections are still accepted, so that the platform can see /ping answer 503."""
        self._engine.drain()
        with suppress(TimeoutError):
            async with asyncio.timeout(max(0.0, self._drain_timeout_s - STOP_S)):
                await self._engine.idle()
        self.should_exit = True
