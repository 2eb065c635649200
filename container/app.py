"""The ASGI application: every request ends here in exactly one answer and one log line."""

import asyncio
import logging
import time
from contextlib import AbstractAsyncContextManager, nullcontext

from container import routes
from container.asgi import Receive, Scope, Send
from container.http import responses
from container.http.error_replies import ClientGone, ErrorReply
from container.http.request import Request
from container.http.responses import Response
from container.routes import Context, Route
from model_handler.errors import Draining, EngineError

log = logging.getLogger(__name__)
CLIENT_GONE = 499  # never sent: for the log


class App:
    """`background` runs beside the engine, from its start to its end."""

    def __init__(
        self, context: Context, background: AbstractAsyncContextManager[object] | None = None
    ) -> None:
        self._context = context
        self._background = background or nullcontext()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            await self._serve(Request(scope, receive), send)
        elif scope["type"] == "lifespan":
            await self._live(receive, send)

    async def _live(self, receive: Receive, send: Send) -> None:
        assert (await receive())["type"] == "lifespan.startup"
        async with self._context.engine, self._background:
            await send({"type": "lifespan.startup.complete"})
            assert (await receive())["type"] == "lifespan.shutdown"
        await send({"type": "lifespan.shutdown.complete"})

    async def _serve(self, request: Request, send: Send) -> None:
        began = time.perf_counter()
        route: Route | None = None
        response: Response | None = None
        try:
            route = routes.find(request)
            response = await route(self._context, request)
        except (EngineError, ErrorReply) as error:
            response = responses.error(error)
        except ClientGone:
            pass
        except asyncio.CancelledError:
            # The server gives up waiting for this request; its client still gets an answer.
            response = responses.error(Draining("the container is shutting down"))
        except Exception as error:  # a mistake of ours must cost one request, not the server
            log.exception("request failed unexpectedly", extra={"model": request.model})
            response = responses.internal(error)
        if response is not None:
            await _send(request, response, send)
        _log(request, route, response, began)


async def _send(request: Request, response: Response, send: Send) -> None:
    headers = responses.head(response)
    if request.awaits_continue and not response.close:
        headers.append((b"connection", b"close"))
    await send({"type": "http.response.start", "status": response.status, "headers": headers})
    body = response.body
    if response.close:
        await send({"type": "http.response.body", "body": body, "more_body": True})
        await request.drain()
        body = b""
    await send({"type": "http.response.body", "body": body})


def _log(request: Request, route: Route | None, response: Response | None, began: float) -> None:
    status = CLIENT_GONE if response is None else response.status
    if status == 200 and route in routes.QUIET:
        return
    facts = {
        "method": request.method,
        "route": route.__name__ if route else None,
        "model": request.model,
        "target": request.target,
        "status": status,
        "ms": round((time.perf_counter() - began) * 1e3, 2),
        "request_nbytes": request.nbytes,
    }
    if response is not None:
        facts["response_nbytes"] = len(response.body)
        if response.error is not None:
            facts["error"] = response.error
    log.log(logging.WARNING if status >= 500 else logging.INFO, "request", extra=facts)
