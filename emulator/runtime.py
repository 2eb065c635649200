"""The runtime door: InvokeEndpoint's headers in, its headers and errors out."""

import json
import logging
import uuid
from collections.abc import Mapping

from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from emulator.account import ACCOUNT
from emulator.control import service_models
from emulator.control.endpoint_store import EndpointStore
from emulator.control.errors import ApiError
from emulator.control.validation import validate
from emulator.interfaces import Hosting, Invocation, InvocationFailed, InvocationResult

log = logging.getLogger(__name__)

MAX_BODY = 25 * 1024 * 1024

# What the platform hands on to a container; everything else it takes off.
_FORWARDED = (
    "content-type",
    "accept",
    "x-amzn-sagemaker-custom-attributes",
    "x-amzn-sagemaker-inference-id",
    "x-amzn-sagemaker-session-id",
)
_NOT_HERE = {
    "EnableExplanations": "Online explanation",
    "InferenceComponentName": "Inference component invocation",
}


class RuntimeApi:
    def __init__(self, hosting: Hosting, endpoints: EndpointStore) -> None:
        self._hosting = hosting
        self._endpoints = endpoints

    async def invoke(self, request: Request) -> Response:
        try:
            name = request.path_params["name"]
            body = await _body(request)
            members = _members(request)
            if not self._endpoints.serving(name):
                raise _invalid(f"Endpoint {name} of account {ACCOUNT} not found.")
            return _accepted(await self._hosting.invoke(name, _invocation(request, members, body)))
        except InvocationFailed as failure:
            return _failed(failure)
        except ClientDisconnect:
            return Response(status_code=499)
        # A bug of ours must reach the caller as AWS's own bugs do, and the log in full.
        except Exception:
            log.exception("invocation failed")
            return _failed(InvocationFailed(500, "InternalFailure", "Internal failure."))

    async def refuse_async(self, request: Request) -> Response:
        return _failed(_invalid(_unsupported(request, "asynchronous invocation")))

    async def refuse_stream(self, request: Request) -> Response:
        return _failed(_invalid(_unsupported(request, "response streaming")))


async def _body(request: Request) -> bytes:
    """All of it is read, also what is too long, so that the client gets to read the answer."""
    parts, nbytes = [], 0
    async for part in request.stream():
        nbytes += len(part)
        if nbytes <= MAX_BODY:
            parts.append(part)
    if nbytes > MAX_BODY:
        raise InvocationFailed(413, "", f"HTTP content length exceeded {MAX_BODY} bytes.")
    return b"".join(parts)


def _members(request: Request) -> dict[str, str]:
    """The call's members by their names in the service model."""
    shape = service_models.runtime().operation_model("InvokeEndpoint").input_shape
    members = {"EndpointName": request.path_params["name"]}
    for name, member in shape.members.items():
        if member.serialization.get("location") == "header":
            header = request.headers.get(member.serialization["name"])
            if header is not None:
                members[name] = header
    try:
        given: dict[str, str] = validate(shape, members | {"Body": ""}, "ValidationError")
    except ApiError as refusal:
        raise _invalid(refusal.message) from None
    for name, feature in _NOT_HERE.items():
        if name in given:
            raise _invalid(f"{feature} is not available for multi-model endpoints.")
    return given


def _invocation(request: Request, members: Mapping[str, str], body: bytes) -> Invocation:
    return Invocation(
        body=body,
        headers={name: request.headers[name] for name in _FORWARDED if name in request.headers},
        target_model=members.get("TargetModel"),
        target_variant=members.get("TargetVariant"),
        target_container=members.get("TargetContainerHostname"),
    )


def _accepted(outcome: InvocationResult) -> Response:
    headers = {
        **outcome.headers,
        "content-type": outcome.content_type,
        "x-Amzn-Invoked-Production-Variant": outcome.variant,
        "x-amzn-RequestId": str(uuid.uuid4()),
    }
    return Response(outcome.body, 200, headers)


def _failed(failure: InvocationFailed) -> Response:
    """Clients find the exception's class in the header; without a code they show the status."""
    headers = {"x-amzn-RequestId": str(uuid.uuid4())}
    if failure.code:
        headers["x-amzn-ErrorType"] = failure.code
    body = json.dumps({"Message": failure.message, **failure.fields})
    return Response(body, failure.status, headers, "application/json")


def _invalid(message: str) -> InvocationFailed:
    return InvocationFailed(400, "ValidationError", message)


def _unsupported(request: Request, what: str) -> str:
    return f"Endpoint {request.path_params['name']} does not support {what}."
