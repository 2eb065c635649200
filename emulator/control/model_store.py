"""CreateModel and its siblings."""

import time
from dataclasses import dataclass
from typing import Any

from emulator.account import Caller
from emulator.control import container_definitions
from emulator.control.errors import ApiError
from emulator.control.resource_store import ResourceStore
from emulator.control.tag_store import TagStore, check_duplicate_keys
from emulator.records import ModelSpec

Members = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Model:
    """As it was asked for (`members`) and as it is hosted (`spec`)."""

    name: str
    arn: str
    created: float
    members: Members
    spec: ModelSpec

    @property
    def multi_model(self) -> bool:
        return any(container.multi_model for container in self.spec.containers)


class ModelStore:
    def __init__(self, tags: TagStore) -> None:
        self._tags = tags
        self._resources: ResourceStore[Model] = ResourceStore("model", "model")

    def find(self, caller: Caller, name: str) -> Model:
        return self._resources.find(caller, name)

    async def create(self, caller: Caller, members: Members) -> Members:
        # The service model leaves the role optional, since some models need none; these do.
        if "ExecutionRoleArn" not in members:
            raise ApiError(
                "1 validation error detected: Value null at 'executionRoleArn' failed to satisfy "
                "constraint: Member must not be null"
            )
        tags = members.pop("Tags", [])
        check_duplicate_keys(tags)
        name = members["ModelName"]
        containers = container_definitions.hosted(members)
        spec = ModelSpec(name, containers, members.get("EnableNetworkIsolation", False))
        model = Model(name, caller.arn("model", name), time.time(), members, spec)
        self._resources.add(model)
        self._tags.attach(model.arn, tags)
        return {"ModelArn": model.arn}

    async def describe(self, caller: Caller, members: Members) -> Members:
        model = self.find(caller, members["ModelName"])
        given = {"EnableNetworkIsolation": False, **model.members}
        if "PrimaryContainer" in given:
            given["PrimaryContainer"] = {"Mode": "SingleModel", **given["PrimaryContainer"]}
        else:
            given["Containers"] = [{"Mode": "SingleModel", **c} for c in given["Containers"]]
        return {**given, "ModelArn": model.arn, "CreationTime": model.created}

    async def listing(self, _: Caller, members: Members) -> Members:
        page, token = self._resources.page(members)
        return {"Models": [_summary(model) for model in page], "NextToken": token}

    async def delete(self, caller: Caller, members: Members) -> Members:
        self._tags.drop(self._resources.remove(caller, members["ModelName"]).arn)
        return {}


def _summary(model: Model) -> Members:
    return {"ModelName": model.name, "ModelArn": model.arn, "CreationTime": model.created}
