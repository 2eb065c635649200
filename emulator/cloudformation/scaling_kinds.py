"""AWS::ApplicationAutoScaling::ScalableTarget and ScalingPolicy."""

from dataclasses import dataclass

from emulator.cloudformation.calls import Calls
from emulator.cloudformation.functions import Identity
from emulator.cloudformation.kinds import Properties, coerced
from emulator.cloudformation.refusals import invalid

_SERVICE = "application-autoscaling"
_TARGET = ("ResourceId", "ScalableDimension", "ServiceNamespace")


@dataclass(frozen=True, slots=True)
class ScalableTarget:
    type: str = "AWS::ApplicationAutoScaling::ScalableTarget"

    async def create(self, calls: Calls, name: str, properties: Properties) -> Identity:
        physical_id = "|".join(properties[key] for key in _TARGET)
        await self.settle(calls, Identity(physical_id), properties)
        return Identity(physical_id, {"Id": physical_id})

    async def settle(self, calls: Calls, made: Identity, properties: Properties) -> None:
        shape = calls.operation(_SERVICE, "RegisterScalableTarget").input_shape
        await calls(_SERVICE, "RegisterScalableTarget", **coerced(shape, dict(properties)))

    async def delete(self, calls: Calls, made: Identity) -> None:
        await calls(_SERVICE, "DeregisterScalableTarget", **_target(made.physical_id))


@dataclass(frozen=True, slots=True)
class ScalingPolicy:
    type: str = "AWS::ApplicationAutoScaling::ScalingPolicy"

    async def create(self, calls: Calls, name: str, properties: Properties) -> Identity:
        return await _put(calls, properties)

    async def settle(self, calls: Calls, made: Identity, properties: Properties) -> None:
        await _put(calls, properties)

    async def delete(self, calls: Calls, made: Identity) -> None:
        where = {key: made.attributes[key] for key in ("PolicyName", *_TARGET)}
        await calls(_SERVICE, "DeleteScalingPolicy", **where)


async def _put(calls: Calls, properties: Properties) -> Identity:
    given = {key: item for key, item in properties.items() if key != "ScalingTargetId"}
    if "ScalingTargetId" in properties:
        given |= _target(properties["ScalingTargetId"])
    elif missing := [key for key in _TARGET if key not in given]:
        raise invalid(f"Give ScalingTargetId or {', '.join(missing)}.")
    members = coerced(calls.operation(_SERVICE, "PutScalingPolicy").input_shape, given)
    arn = (await calls(_SERVICE, "PutScalingPolicy", **members))["PolicyARN"]
    where = {key: members[key] for key in ("PolicyName", *_TARGET)}
    return Identity(arn, {"Arn": arn, **where})


def _target(physical_id: str) -> dict[str, str]:
    parts = physical_id.split("|")
    if len(parts) != len(_TARGET):
        raise invalid(f"{physical_id} is not the id of a scalable target.")
    return dict(zip(_TARGET, parts, strict=True))
