"""AWS::SageMaker::Model, EndpointConfig and Endpoint."""

from dataclasses import dataclass
from typing import Any

from botocore.exceptions import ClientError

from emulator.cloudformation.calls import Calls, says_gone
from emulator.cloudformation.functions import Identity
from emulator.cloudformation.kinds import Properties, coerced
from emulator.cloudformation.refusals import invalid

_SERVICE = "sagemaker"
_MOVING = ("Creating", "Updating", "Deleting")


@dataclass(frozen=True, slots=True)
class Record:
    """Made by one call and gone by another; nothing of it changes in between."""

    noun: str

    @property
    def type(self) -> str:
        return f"AWS::SageMaker::{self.noun}"

    @property
    def _name(self) -> str:
        return f"{self.noun}Name"

    async def create(self, calls: Calls, name: str, properties: Properties) -> Identity:
        operation = f"Create{self.noun}"
        shape = calls.operation(_SERVICE, operation).input_shape
        members = coerced(shape, {self._name: name, **properties})
        arn = (await calls(_SERVICE, operation, **members))[f"{self.noun}Arn"]
        return Identity(arn, {self._name: members[self._name], f"{self.noun}Arn": arn})

    async def settle(self, calls: Calls, made: Identity, properties: Properties) -> None:
        return

    async def delete(self, calls: Calls, made: Identity) -> None:
        await calls(_SERVICE, f"Delete{self.noun}", **{self._name: made.attributes[self._name]})


# Of the properties, those that only an update takes.
_FOR_UPDATES = (
    "ExcludeRetainedVariantProperties",
    "RetainAllVariantProperties",
    "RetainDeploymentConfig",
)


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Moves to another configuration in place."""

    type: str = "AWS::SageMaker::Endpoint"

    async def create(self, calls: Calls, name: str, properties: Properties) -> Identity:
        given = {key: item for key, item in properties.items() if key not in _FOR_UPDATES}
        return await Record("Endpoint").create(calls, name, given)

    async def settle(self, calls: Calls, made: Identity, properties: Properties) -> None:
        described = await _at_rest(calls, made)
        if described["EndpointStatus"] != "InService":
            raise invalid(described.get("FailureReason", described["EndpointStatus"]))
        if described["EndpointConfigName"] != properties["EndpointConfigName"]:
            await self._move(calls, made, properties)

    async def delete(self, calls: Calls, made: Identity) -> None:
        await _at_rest(calls, made)
        await Record("Endpoint").delete(calls, made)
        try:
            left = await _at_rest(calls, made)
        except ClientError as error:
            if says_gone(error):
                return
            raise
        raise invalid(left.get("FailureReason", "The endpoint is still there."))

    async def _move(self, calls: Calls, made: Identity, properties: Properties) -> None:
        shape = calls.operation(_SERVICE, "UpdateEndpoint").input_shape
        given = {key: item for key, item in properties.items() if key != "Tags"}
        members = coerced(shape, {**given, "EndpointName": made.attributes["EndpointName"]})
        await calls(_SERVICE, "UpdateEndpoint", **members)
        described = await _at_rest(calls, made)
        if described["EndpointConfigName"] != properties["EndpointConfigName"]:
            raise invalid(described.get("FailureReason", "The endpoint was not updated."))


async def _at_rest(calls: Calls, made: Identity) -> dict[str, Any]:
    """Described when no transition is under way: each call waits for its end on the other side."""
    while True:
        name = made.attributes["EndpointName"]
        described = await calls(_SERVICE, "DescribeEndpoint", EndpointName=name)
        if described["EndpointStatus"] not in _MOVING:
            return described


HOSTING_KINDS = (Record("Model"), Record("EndpointConfig"), Endpoint())
