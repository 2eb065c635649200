"""CreateModel, DescribeModel, ListModels, DeleteModel."""

import time
from dataclasses import dataclass

from emulator.account import Caller
from emulator.control import container_definitions
from emulator.control.errors import ApiError
from emulator.control.resource_store import ResourceStore
from emulator.control.tag_store import TagStore, check_duplicate_keys
from emulator.control.validation import Members
from emulator.records import ModelSpec


@dataclass(frozen=True, slots=True)
class ModelRecord:
    """`members`: those of the CreateModel call. `spec`: the model for the hosting side."""

    name: str
    arn: str
    created: float
    members: Members
    spec: ModelSpec


class ModelStore:
    def __init__(self, tags: TagStore) -> None:
        self._tags = tags
        self._resources: ResourceStore[ModelRecord] = ResourceStore("model", "model")

    def find(self, caller: Caller, name: str) -> ModelRecord:
        return self._resources.find(caller, name)

    async def create(self, caller: Caller, members: Members) -> Members:
        # The service model has it as optional, but models on endpoints need a role.
        if "ExecutionRoleArn" not in members:
            raise ApiError(
                "1 validation error detected: Value null at 'executionRoleArn' failed to satisfy "
                "constraint: Member must not be null"
            )
        tags = members.pop("Tags", [])
        check_duplicate_keys(tags)
        name = members["ModelName"]
        spec = ModelSpec(name, container_definitions.container_specs(members))
        model = ModelRecord(name, caller.arn("model", name), time.time(), members, spec)
        self._resources.add(model)
        self._tags.attach(model.arn, tags)
        return {"ModelArn": model.arn}

    async def describe(self, caller: Caller, members: Members) -> Members:
        model = self.find(caller, members["ModelName"])
        described = {"EnableNetworkIsolation": False, **model.members}
        default = {"Mode": "SingleModel"}
        if "PrimaryContainer" in described:
            described["PrimaryContainer"] = default | described["PrimaryContainer"]
        else:
            described["Containers"] = [default | c for c in described["Containers"]]
        return {**described, "ModelArn": model.arn, "CreationTime": model.created}

    async def listing(self, _: Caller, members: Members) -> Members:
        page, token = self._resources.page(members)
        return {"Models": [_summary(model) for model in page], "NextToken": token}

    async def delete(self, caller: Caller, members: Members) -> Members:
        self._tags.drop(self._resources.remove(caller, members["ModelName"]).arn)
        return {}


def _summary(model: ModelRecord) -> Members:
    return {"ModelName": model.name, "ModelArn": model.arn, "CreationTime": model.created}
