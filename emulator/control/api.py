"""The SageMaker control API over HTTP: JSON 1.1, one POST per call, the operation in a header."""

import json
import logging
import uuid
from collections.abc import Awaitable, Callable

from starlette.requests import Request
from starlette.responses import Response

from emulator.account import Caller
from emulator.control import service_models
from emulator.control.endpoint_config_store import EndpointConfigStore
from emulator.control.endpoint_store import EndpointStore
from emulator.control.errors import ApiError, internal_failure
from emulator.control.model_store import ModelStore
from emulator.control.responses import serialize
from emulator.control.tag_store import TagStore
from emulator.control.validation import Members, validate
from emulator.interfaces import Hosting

Operation = Callable[[Caller, Members], Awaitable[Members]]

log = logging.getLogger(__name__)

_CONTENT_TYPE = "application/x-amz-json-1.1"


class ControlApi:
    """The models, endpoint configurations and endpoints of one account, in memory."""

    def __init__(self, hosting: Hosting, describe_wait_s: float) -> None:
        tags = TagStore()
        models = ModelStore(tags)
        configs = EndpointConfigStore(models, tags)
        self.endpoints = EndpointStore(hosting, configs, tags, describe_wait_s)
        self._operations = _operations(models, configs, self.endpoints, tags)

    async def respond(self, request: Request) -> Response:
        try:
            return _json_response(200, await self._call(request))
        except ApiError as error:
            return _error_response(error)
        # A bug of the platform becomes a 500, as on AWS; the log has the traceback.
        except Exception:
            log.exception("call failed", extra={"target": request.headers.get("x-amz-target")})
            return _error_response(internal_failure())

    async def _call(self, request: Request) -> Members:
        name = request.headers.get("x-amz-target", "").removeprefix("SageMaker.")
        operation = self._operations.get(name)
        if operation is None:
            raise ApiError(
                f"The operation {name or '(none)'} is not available here.",
                "UnknownOperationException",
            )
        model = service_models.control_plane().operation_model(name)
        members = validate(model.input_shape, _parsed(await request.body()))
        caller = Caller.signed(request.headers.get("authorization", ""))
        result = await operation(caller, members)
        return serialize(model.output_shape, result) if model.output_shape else {}


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


def _parsed(body: bytes) -> object:
    try:
        return json.loads(body or b"{}")
    except ValueError:
        raise ApiError("The body is not JSON.", "SerializationException") from None


def _error_response(error: ApiError) -> Response:
    body = {"__type": error.code, "message": error.message}
    return _json_response(error.status, body, {"x-amzn-ErrorType": error.code})


def _json_response(status: int, body: Members, headers: dict[str, str] | None = None) -> Response:
    return Response(
        json.dumps(body),
        status,
        {"x-amzn-RequestId": str(uuid.uuid4()), **(headers or {})},
        _CONTENT_TYPE,
    )
