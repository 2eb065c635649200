"""Which request is answered by whom. Paths are matched as they came; only a model's name is decoded.

Always true: a name cannot reach another route, whatever it holds or encodes.
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


class Catalogue(Protocol):
    """How a request to `/invocations`, whose path names no model, gets one."""

    def health(self) -> str | None:
        """None, or one line why requests should not come yet."""

    def select(self, target: str | None, body: bytes) -> tuple[str, bytes]:
        """The loaded model's name, and what it shall be sent. Raises EngineError."""


class Context(msgspec.Struct, frozen=True):
    """What all routes share."""

    engine: Engine
    catalogue: Catalogue
    body_limit: BodyLimit
    default_accept: str | None


Route = Callable[[Context, Request], Awaitable[Response]]


async def ping(context: Context, request: Request) -> Response:
    reason = context.engine.health() or context.catalogue.health()
    if reason is not None:
        return responses.error(Unavailable(reason))
    return responses.json({"status": "Healthy"})


async def metrics(context: Context, request: Request) -> Response:
    return responses.exposition(context.engine.exposition())


async def list_models(context: Context, request: Request) -> Response:
    chosen, token = schemas.cut(context.engine.models(), schemas.page(request.query))
    document: dict[str, object] = {"models": [responses.description(model) for model in chosen]}
    if token is not None:
        document["nextPageToken"] = token
    return responses.json(document)


async def load_model(context: Context, request: Request) -> Response:
    limit = context.body_limit
    if limit.nbytes > MAX_LOAD_NBYTES:
        limit = BodyLimit(MAX_LOAD_NBYTES, limit.seconds)
    wanted = schemas.load_request(await request.read(limit))
    request.model = wanted.model_name
    await context.engine.load(wanted.model_name, wanted.url, target=request.target)
    loaded = {"modelName": wanted.model_name, "modelUrl": wanted.url, "status": "LOADED"}
    return responses.json(loaded)


async def get_model(context: Context, request: Request) -> Response:
    return responses.json(responses.description(context.engine.model(request.model or "")))


async def unload_model(context: Context, request: Request) -> Response:
    await context.engine.unload(request.model or "")
    return responses.json({"status": "UNLOADED"})


async def invoke_model(context: Context, request: Request) -> Response:
    body = await request.read(context.body_limit)
    return await _invoke(context, request, request.model or "", body)


async def invocations(context: Context, request: Request) -> Response:
    body = await request.read(context.body_limit)
    request.model, body = context.catalogue.select(request.target, body)
    return await _invoke(context, request, request.model, body)


async def _invoke(context: Context, request: Request, name: str, body: bytes) -> Response:
    inference = InferenceRequest(
        body=body,
        content_type=request.header(b"content-type"),
        accept=request.header(b"accept") or context.default_accept,
        custom_attributes=request.header(CUSTOM_ATTRIBUTES),
        request_id=request.header(INFERENCE_ID),
        headers=tuple(request.headers.items()),
    )
    work = context.engine.invoke(name, inference)
    return responses.answer(await request.while_connected(work))


NAME = b"{name}"
ROUTES: Mapping[tuple[bytes, ...], Mapping[str, Route]] = {
    (b"ping",): {"GET": ping},
    (b"metrics",): {"GET": metrics},
    (b"models",): {"GET": list_models, "POST": load_model},
    (b"models", NAME): {"GET": get_model, "DELETE": unload_model},
    (b"models", NAME, b"invoke"): {"POST": invoke_model},
    (b"invocations",): {"POST": invocations},
}
QUIET = (ping, list_models)  # asked every few seconds: not logged as long as the answer is 200


def find(request: Request) -> Route:
    """Sets `request.model` where the path names one. Raises RouteNotFound, MethodNotAllowed, or
    InvalidRequest for a name that cannot be one."""
    segments = request.raw_path.split(b"/")[1:]
    if len(segments) > 1 and not segments[-1]:
        segments.pop()  # a trailing slash means nothing
    pattern = (*segments[:1], *[NAME] * (len(segments) > 1), *segments[2:])
    methods = ROUTES.get(pattern)
    if methods is None:
        raise RouteNotFound("nothing is served at this path")
    if len(segments) > 1:
        request.model = names.from_segment(segments[1])
    route = methods.get("GET" if request.method == "HEAD" else request.method)
    if route is None:
        raise MethodNotAllowed(request.method, _allowed(methods))
    return route


def _allowed(methods: Iterable[str]) -> list[str]:
    return [*methods, "HEAD"] if "GET" in methods else [*methods]
