"""The application: every request, also one that could not be read, gets one answer, one log line and one
count, all from `App._finish`."""

import asyncio
import logging
import time
from contextlib import AbstractAsyncContextManager, AsyncExitStack, nullcontext
from typing import Self

from container import routes
from container.http import responses
from container.http.error_replies import ClientGone, ErrorReply
from container.http.request import Request
from container.http.responses import Response
from container.request_log import RequestLog
from container.routes import Route, RouteContext
from model_handler.errors import Draining, EngineError

log = logging.getLogger(__name__)
UNKNOWN = "unknown"  # the label of models that are not loaded


class App:
    """`background` runs beside the engine, from its start to its end."""

    def __init__(
        self,
        context: RouteContext,
        request_log: RequestLog,
        background: AbstractAsyncContextManager[object] | None = None,
    ) -> None:
        self._context = context
        self._request_log = request_log
        self._background = background or nullcontext()
        self._exit = AsyncExitStack()

    async def __aenter__(self) -> Self:
        async with AsyncExitStack() as stack:
            await stack.enter_async_context(self._context.engine)
            await stack.enter_async_context(self._background)
            self._exit = stack.pop_all()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._exit.aclose()

    async def __call__(self, request: Request) -> None:
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
        except Exception as error:  # a defect must cost one request, not the server
            log.exception("request failed unexpectedly", extra={"model": request.model})
            response = responses.internal(error)
        self._finish(request, route, response, began)

    def _finish(
        self, request: Request, route: Route | None, response: Response | None, began: float
    ) -> None:
        """The one way out: count, log line and answer (None: the client has gone). The answer is last:
        a client that has it finds the other two."""
        quiet = False
        if response is not None:
            quiet = response.status == 200 and route in routes.QUIET
            if not request.counted:
                self._context.engine.answered(_label(route), response.error or "ok")
        if not quiet:
            self._request_log.write(request, route.__name__ if route else None, response, began)
        if response is not None:
            request.answer(response)


def _label(route: Route | None) -> str:
    """The model label of an answer that did not come from the engine's `invoke`."""
    return UNKNOWN if route is None or route in routes.INFERENCE else ""
