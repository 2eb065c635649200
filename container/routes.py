"""The routes. Paths are matched as they were sent; only a model's name is decoded.

Invariant: a name cannot reach another route, whatever characters or escapes it has.
"""

from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Protocol

import msgspec

from container.engine import Engine
from container.http import names, responses, schemas
from container.http.body import BodyLimit
from container.http.error_replies import MethodNotAllowed, RouteNotFound
from container.http.request import INFERENCE_ID, Request
from container.http.responses import CUSTOM_ATTRIBUTES, Response
from model_handler.errors import Unavailable
from model_handler.messages import InferenceRequest

MAX_LOAD_NBYTES = 1 << 20


class ModelSelector(Protocol):
    """Selects the model for a request to `/invocations`, whose path names none."""

    def health(self) -> str | None:
        """None, or one line that says why the container is not ready for requests."""

    def select(self, target: str | None, body: bytes) -> tuple[str, bytes]:
        """The loaded model's name, and the body to send to it. Raises EngineError."""


class RouteContext(msgspec.Struct, frozen=True):
    """What all routes share."""

    engine: Engine
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
    if limit.nbytes > MAX_LOAD_NBYTES:
        limit = BodyLimit(MAX_LOAD_NBYTES, limit.seconds)
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
    request.counted = True
    answer = await request.while_connected(context.engine.invoke(name, inference))
    return responses.answer(answer)


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


def find(request: Request) -> Route:
    """Sets `request.model` where the path names one. Raises RouteNotFound, MethodNotAllowed, InvalidRequest
    for a name that is not allowed, or `request.error`."""
    if request.error is not None:
        raise request.error
    segments = request.raw_path.split(b"/")[1:]
    if len(segments) > 1 and not segments[-1]:
        segments.pop()  # a trailing slash is ignored
    named = len(segments) > 1
    methods = ROUTES.get((segments[0], NAME, *segments[2:]) if named else tuple(segments))
    if methods is None:
        raise RouteNotFound("nothing is served at this path")
    if named:
        request.model = names.from_segment(segments[1])
    route = methods.get("GET" if request.method == "HEAD" else request.method)
    if route is None:
        raise MethodNotAllowed(request.method, _allowed(methods))
    return route


def _allowed(methods: Iterable[str]) -> list[str]:
    return [*methods, "HEAD"] if "GET" in methods else [*methods]
