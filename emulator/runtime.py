"""The SageMaker runtime API over HTTP: InvokeEndpoint, its request headers, responses and errors."""

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
from emulator.invocation_errors import invalid

log = logging.getLogger(__name__)

MAX_BODY = 25 * 1024 * 1024

# The request headers that reach the container; SageMaker drops all others.
_FORWARDED = (
    "content-type",
    "accept",
    "x-amzn-sagemaker-custom-attributes",
    "x-amzn-sagemaker-inference-id",
    "x-amzn-sagemaker-session-id",
)
_UNSUPPORTED = {
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
                raise invalid(f"Endpoint {name} of account {ACCOUNT} not found.")
            result = await self._hosting.invoke(name, _invocation(request, members, body))
            return _result_response(result)
        except InvocationFailed as failure:
            return _error_response(failure)
        except ClientDisconnect:
            return Response(status_code=499)
        # A bug of the platform becomes a 500, as on AWS; the log has the traceback.
        except Exception:
            log.exception("invocation failed")
            return _error_response(InvocationFailed(500, "InternalFailure", "Internal failure."))

    async def refuse_async(self, request: Request) -> Response:
        return _error_response(invalid(_unsupported(request, "asynchronous invocation")))

    async def refuse_stream(self, request: Request) -> Response:
        return _error_response(invalid(_unsupported(request, "response streaming")))


async def _body(request: Request) -> bytes:
    """Reads a body that is too long to its end as well: only then do clients read the response."""
    parts, nbytes = [], 0
    async for part in request.stream():
        nbytes += len(part)
        if nbytes <= MAX_BODY:
            parts.append(part)
    if nbytes > MAX_BODY:
        raise InvocationFailed(413, "", f"HTTP content length exceeded {MAX_BODY} bytes.")
    return b"".join(parts)


def _members(request: Request) -> dict[str, str]:
    """The members of the call that are headers, validated, by their names in the service model."""
    shape = service_models.runtime().operation_model("InvokeEndpoint").input_shape
    members = {"EndpointName": request.path_params["name"]}
    for name, member in shape.members.items():
        if member.serialization.get("location") == "header":
            header = request.headers.get(member.serialization["name"])
            if header is not None:
                members[name] = header
    try:
        given: dict[str, str] = validate(shape, members | {"Body": ""}, "ValidationError")
    except ApiError as error:
        raise invalid(error.message) from None
    for name, feature in _UNSUPPORTED.items():
        if name in given:
            raise invalid(f"{feature} is not available for multi-model endpoints.")
    return given


def _invocation(request: Request, members: Mapping[str, str], body: bytes) -> Invocation:
    return Invocation(
        body=body,
        headers={name: request.headers[name] for name in _FORWARDED if name in request.headers},
        target_model=members.get("TargetModel"),
        target_variant=members.get("TargetVariant"),
        target_container=members.get("TargetContainerHostname"),
    )


def _result_response(result: InvocationResult) -> Response:
    headers = {
        **result.headers,
        "content-type": result.content_type,
        "x-Amzn-Invoked-Production-Variant": result.variant,
        "x-amzn-RequestId": str(uuid.uuid4()),
    }
    return Response(result.body, 200, headers)


def _error_response(failure: InvocationFailed) -> Response:
    """Clients take the exception class from the header; without a code they show the status."""
    headers = {"x-amzn-RequestId": str(uuid.uuid4())}
    if failure.code:
        headers["x-amzn-ErrorType"] = failure.code
    body = json.dumps({"Message": failure.message, **failure.fields})
    return Response(body, failure.status, headers, "application/json")


def _unsupported(request: Request, feature: str) -> str:
    return f"Endpoint {request.path_params['name']} does not support {feature}."
