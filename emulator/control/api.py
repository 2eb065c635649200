"""SageMaker's control plane on the wire: JSON 1.1, one POST per call, the operation in a header."""

import json
import logging
import uuid
from collections.abc import Awaitable, Callable
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from emulator.account import Caller
from emulator.control import service_models
from emulator.control.endpoint_config_store import EndpointConfigStore
from emulator.control.endpoint_store import EndpointStore
from emulator.control.errors import ApiError
from emulator.control.model_store import ModelStore
from emulator.control.responses import serialize
from emulator.control.tag_store import TagStore
from emulator.control.validation import validate
from emulator.interfaces import Hosting

Members = dict[str, Any]
Operation = Callable[[Caller, Members], Awaitable[Members]]

log = logging.getLogger(__name__)

_CONTENT_TYPE = "application/x-amz-json-1.1"


class ControlApi:
    """Models, endpoint configurations and endpoints of one account, in memory."""

    def __init__(self, hosting: Hosting, patience_s: float) -> None:
        tags = TagStore()
        models = ModelStore(tags)
        configs = EndpointConfigStore(models, tags)
        self.endpoints = EndpointStore(hosting, configs, tags, patience_s)
        self._operations = _operations(models, configs, self.endpoints, tags)

    async def answer(self, request: Request) -> Response:
        try:
            return _json(200, await self._call(request))
        except ApiError as refusal:
            return _refused(refusal)
        # A bug of ours must reach the caller as AWS's own bugs do, and the log in full.
        except Exception:
            log.exception("call failed", extra={"target": request.headers.get("x-amz-target")})
            return _refused(ApiError("Internal failure.", "InternalFailure", 500))

    async def _call(self, request: Request) -> Members:
        name = _operation_name(request)
        operation = self._operations.get(name)
        if operation is None:
            raise ApiError(
                f"The operation {name or '(none)'} is not available here.",
                "UnknownOperationException",
            )
        model = service_models.control_plane().operation_model(name)
        members = validate(model.input_shape, _document(await request.body()))
        caller = Caller.signed(request.headers.get("authorization", ""))
        answer = await operation(caller, members)
        return serialize(model.output_shape, answer) if model.output_shape else {}


def _operations(
    models: ModelStore, configs: EndpointConfigStore, endpoints: EndpointStore, tags: TagStore
) -> dict[str, Operation]:
    return {
        "CreateModel": models.create,
        "DescribeModel": models.describe,
        "ListModels": models.listing,
        "DeleteModel": models.delete,
        "CreateEndpointConfig": configs.create,
        "DescribeEndpointConfig": configs.describe,
        "ListEndpointConfigs": configs.listing,
        "DeleteEndpointConfig": configs.delete,
        "CreateEndpoint": endpoints.create,
        "UpdateEndpoint": endpoints.update,
        "UpdateEndpointWeightsAndCapacities": endpoints.scale,
        "DescribeEndpoint": endpoints.describe,
        "ListEndpoints": endpoints.listing,
        "DeleteEndpoint": endpoints.delete,
        "AddTags": tags.add,
        "ListTags": tags.listing,
        "DeleteTags": tags.delete,
    }


def _operation_name(request: Request) -> str:
    return request.headers.get("x-amz-target", "").removeprefix("SageMaker.")


def _document(body: bytes) -> object:
    try:
        return json.loads(body or b"{}")
    except ValueError:
        raise ApiError("The body is not JSON.", "SerializationException") from None


def _refused(refusal: ApiError) -> Response:
    body = {"__type": refusal.code, "message": refusal.message}
    return _json(refusal.status, body, {"x-amzn-ErrorType": refusal.code})


def _json(status: int, body: Members, headers: dict[str, str] | None = None) -> Response:
    return Response(
        json.dumps(body),
        status,
        {"x-amzn-RequestId": str(uuid.uuid4()), **(headers or {})},
        _CONTENT_TYPE,
    )
