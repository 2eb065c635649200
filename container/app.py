"""The application: its routes, and one answer, one log line and one count for every request.

A request that could not be read gets them too, all from `App._finish`. Paths are matched as they were sent;
only a model's name is decoded. Invariant: a name cannot reach another route, whatever characters or escapes
it has.
"""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping
from contextlib import AbstractAsyncContextManager, AsyncExitStack, nullcontext
from functools import lru_cache
from typing import Protocol, Self

import msgspec

from container.engine import EngineInterface
from container.http import names, responses, schemas
from container.http.error_replies import ClientGone, ErrorReply, MethodNotAllowed, RouteNotFound
from container.http.request import INFERENCE_ID, BodyLimit, Request
from container.http.responses import CUSTOM_ATTRIBUTES, Response
from container.request_log import RequestLog
from model_handler.errors import Draining, EngineError, Unavailable
from model_handler.messages import InferenceRequest

log = logging.getLogger(__name__)
UNKNOWN = "unknown"  # the label of models that are not loaded
MAX_LOAD_NBYTES = 1 << 20


class ModelSelector(Protocol):
    """Selects the model for a request to `/invocations`, whose path names none."""

    def health(self) -> str | None:
        """None, or one line that says why the container is not ready for requests."""

    def select(self, target: str | None, body: bytes) -> tuple[str, bytes]:
        """The loaded model's name, and the body to send to it. Raises EngineError."""


class RouteContext(msgspec.Struct, frozen=True):
    """What all routes share."""

    engine: EngineInterface
    selector: ModelSelector
    body_limit: BodyLimit
    default_accept: str | None


Route = Callable[[RouteContext, Request], Awaitable[Response]]


async def ping(context: RouteContext, request: Request) -> Response:
    reason = context.engine.health() or context.selector.health()
    if reason is not None:
        return responses.error(Unavailable(reason))
    return responses.json({"status": "Healthy"})


async def metrics(context: RouteContext, request: Request) -> Response:
    return responses.exposition(context.engine.exposition())


async def list_models(context: RouteContext, request: Request) -> Response:
    chosen, token = schemas.cut(context.engine.models(), schemas.page(request.query))
    document: dict[str, object] = {"models": [responses.description(model) for model in chosen]}
    if token is not None:
        document["nextPageToken"] = token
    return responses.json(document)


async def load_model(context: RouteContext, request: Request) -> Response:
    limit = context.body_limit
    limit = BodyLimit(min(limit.nbytes, MAX_LOAD_NBYTES), limit.seconds, limit.budget)
    wanted = schemas.load_request(await request.read(limit))
    request.model = wanted.model_name
    await context.engine.load(wanted.model_name, wanted.url, target=request.target)
    loaded = {"modelName": wanted.model_name, "modelUrl": wanted.url, "status": "LOADED"}
    return responses.json(loaded)


async def get_model(context: RouteContext, request: Request) -> Response:
    return responses.json(responses.description(context.engine.model(request.model or "")))


async def unload_model(context: RouteContext, request: Request) -> Response:
    await context.engine.unload(request.model or "")
    return responses.json({"status": "UNLOADED"})


async def invoke_model(context: RouteContext, request: Request) -> Response:
    body = await request.read(context.body_limit)
    return await _invoke(context, request, request.model or "", body)


async def invocations(context: RouteContext, request: Request) -> Response:
    body = await request.read(context.body_limit)
    request.model, body = context.selector.select(request.target, body)
    return await _invoke(context, request, request.model, body)


async def _invoke(context: RouteContext, request: Request, name: str, body: bytes) -> Response:
    header = request.header
    inference = InferenceRequest(
        body,
        header(b"content-type"),
        header(b"accept") or context.default_accept,
        header(CUSTOM_ATTRIBUTES),
        header(INFERENCE_ID),
        tuple(request.headers.items()),
    )
    request.invoking = True
    return responses.answer(await context.engine.invoke(name, inference))


NAME = b"{name}"
ROUTES: Mapping[tuple[bytes, ...], Mapping[str, Route]] = {
    (b"ping",): {"GET": ping},
    (b"metrics",): {"GET": metrics},
    (b"models",): {"GET": list_models, "POST": load_model},
    (b"models", NAME): {"GET": get_model, "DELETE": unload_model},
    (b"models", NAME, b"invoke"): {"POST": invoke_model},
    (b"invocations",): {"POST": invocations},
}
INFERENCE = (invoke_model, invocations)
QUIET = (ping, list_models)  # polled every few seconds: answers of 200 are not logged


def _find(request: Request) -> Route:
    """Sets `request.model` where the path names one. Raises RouteNotFound, MethodNotAllowed, InvalidRequest
    for a name that is not allowed, or `request.error`."""
    if request.error is not None:
        raise request.error
    methods, request.model = _served_at(request.raw_path)
    route = methods.get("GET" if request.method == "HEAD" else request.method)
    if route is None:
        raise MethodNotAllowed(request.method, _allowed(methods))
    return route


@lru_cache(maxsize=1024)  # of paths that name a model, or none
def _served_at(raw_path: bytes) -> tuple[Mapping[str, Route], str | None]:
    """The routes of a path, by method, and the model that it names."""
    segments = raw_path.split(b"/")[1:]
    if len(segments) > 1 and not segments[-1]:
        segments.pop()  # a trailing slash is ignored
    named = len(segments) > 1
    methods = ROUTES.get((segments[0], NAME, *segments[2:]) if named else tuple(segments))
    if methods is None:
        raise RouteNotFound("nothing is served at this path")
    return methods, names.from_segment(segments[1]) if named else None


def _allowed(methods: Iterable[str]) -> list[str]:
    return [*methods, "HEAD"] if "GET" in methods else [*methods]


# ---- the application ----


class App:
    """`background`: entered after the engine has started, left before it stops."""

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
            route = _find(request)
            response = await route(self._context, request)
        except (EngineError, ErrorReply) as error:
            response = responses.error(error)
        except ClientGone:
            pass
        except asyncio.CancelledError:
            # The client has gone, or the server gives up waiting for this request: then it gets an answer.
            if not request.gone:
                response = responses.error(Draining("the container is shutting down"))
        except Exception as error:  # a defect must cost one request, not the server
            log.exception("request failed unexpectedly", extra={"model": request.model})
            response = responses.internal(error)
        self._finish(request, route, response, began)

    def _finish(
        self, request: Request, route: Route | None, response: Response | None, began: float
    ) -> None:
        """Count, log and send the answer (None: the client has disconnected). The answer is sent last, so
        that a client that has received it finds the count and the log line."""
        quiet = False
        request.release()
        if response is not None:
            quiet = response.status == 200 and route in QUIET
            if not request.invoking:
                self._context.engine.answered(_label(route), response.error or "ok")
        if not quiet:
            self._request_log.write(request, route.__name__ if route else None, response, began)
        if response is not None:
            request.connection.answer(request, response)


def _label(route: Route | None) -> str:
    """The model label of an answer that did not come from the engine's `invoke`."""
    return UNKNOWN if route is None or route in INFERENCE else ""
