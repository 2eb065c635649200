"""CloudFormation on the wire: one POST per call, the operation in the form."""

import logging
import uuid
from collections.abc import Awaitable, Callable
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from emulator import service
from emulator.account import Caller
from emulator.answers import answered
from emulator.cloudformation import wire
from emulator.cloudformation.changesets import ChangeSets
from emulator.cloudformation.descriptions import Descriptions
from emulator.cloudformation.stacks import Stacks
from emulator.refusal import Refused
from emulator.validation import validated

Members = dict[str, Any]
Operation = Callable[[Caller, Members], Awaitable[Members]]

log = logging.getLogger(__name__)


class Door:
    def __init__(self, stacks: Stacks) -> None:
        self._operations = _operations(stacks)

    async def answer(self, request: Request) -> Response:
        given = wire.form(await request.body())
        number = str(uuid.uuid4())
        try:
            return _xml(200, await self._call(given, request, number))
        except Refused as refusal:
            return _xml(refusal.status, wire.refusal(refusal, number))
        # A bug of ours must reach the caller as AWS's own bugs do, and the log in full.
        except Exception:
            log.exception("call failed", extra={"action": given.get("Action")})
            failure = Refused("Internal failure.", "InternalFailure", 500)
            return _xml(500, wire.refusal(failure, number))

    async def _call(self, given: wire.Form, request: Request, number: str) -> bytes:
        name = given.get("Action", "(none)")
        operation = self._operations.get(name)
        if operation is None:
            raise Refused(f"The action {name} is not available here.", "InvalidAction")
        model = service.cloudformation().operation_model(name)
        asked = wire.members(model.input_shape, given)
        members = validated(model.input_shape, asked, "ValidationError")
        caller = Caller.signed(request.headers.get("authorization", ""))
        answer = await operation(caller, members)
        shape = model.output_shape
        return wire.answer(model, answered(shape, answer) if shape else {}, number)


def _operations(stacks: Stacks) -> dict[str, Operation]:
    told, sets = Descriptions(stacks), ChangeSets(stacks)
    return {
        "CreateStack": stacks.create,
        "UpdateStack": stacks.update,
        "DeleteStack": stacks.delete,
        "DescribeStacks": told.stacks,
        "DescribeStackEvents": told.events,
        "DescribeStackResources": told.resources,
        "GetTemplate": told.template,
        "GetTemplateSummary": told.template_summary,
        "ListStackResources": told.resource_listing,
        "ListStacks": told.listing,
        "ValidateTemplate": told.validation,
        "CreateChangeSet": sets.create,
        "DescribeChangeSet": sets.describe,
        "ExecuteChangeSet": sets.execute,
        "DeleteChangeSet": sets.delete,
    }


def _xml(status: int, body: bytes) -> Response:
    return Response(body, status, media_type="text/xml")
