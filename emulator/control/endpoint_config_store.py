"""CreateEndpointConfig, DescribeEndpointConfig, ListEndpointConfigs, DeleteEndpointConfig."""

import logging
import time
from dataclasses import dataclass

from emulator.account import Caller
from emulator.control.errors import ApiError
from emulator.control.instance_types import MultiModelSupport, multi_model_support
from emulator.control.model_store import ModelStore
from emulator.control.resource_store import ResourceStore
from emulator.control.tag_store import TagStore, check_duplicate_keys
from emulator.control.validation import Members
from emulator.records import VariantSpec

log = logging.getLogger(__name__)

# Features of SageMaker that the platform lacks, as multi-model endpoints do on AWS.
_UNSUPPORTED = {
    "AsyncInferenceConfig": "Asynchronous inference",
    "DataCaptureConfig": "Data capture",
    "ExplainerConfig": "Online explanation",
    "ShadowProductionVariants": "Shadow testing",
}


@dataclass(frozen=True, slots=True)
class EndpointConfig:
    name: str
    arn: str
    created: float
    members: Members


class EndpointConfigStore:
    def __init__(self, models: ModelStore, tags: TagStore) -> None:
        self._models = models
        self._tags = tags
        self._resources: ResourceStore[EndpointConfig] = ResourceStore(
            "endpoint-config", "endpoint configuration"
        )

    def find(self, caller: Caller, name: str) -> EndpointConfig:
        return self._resources.find(caller, name)

    def variants(self, caller: Caller, config: EndpointConfig) -> tuple[VariantSpec, ...]:
        """The production variants to host. Raises ApiError if a model has been deleted meanwhile."""
        return tuple(self._spec(caller, v) for v in config.members["ProductionVariants"])

    async def create(self, caller: Caller, members: Members) -> Members:
        tags = members.pop("Tags", [])
        check_duplicate_keys(tags)
        name = members["EndpointConfigName"]
        self._check(caller, members)
        config = EndpointConfig(name, caller.arn("endpoint-config", name), time.time(), members)
        self._resources.add(config)
        self._tags.attach(config.arn, tags)
        return {"EndpointConfigArn": config.arn}

    async def describe(self, caller: Caller, members: Members) -> Members:
        config = self.find(caller, members["EndpointConfigName"])
        variants = [
            {"InitialVariantWeight": 1.0, **variant}
            for variant in config.members["ProductionVariants"]
        ]
        return {
            **config.members,
            "ProductionVariants": variants,
            "EndpointConfigArn": config.arn,
            "CreationTime": config.created,
        }

    async def listing(self, _: Caller, members: Members) -> Members:
        page, token = self._resources.page(members)
        return {"EndpointConfigs": [_summary(config) for config in page], "NextToken": token}

    async def delete(self, caller: Caller, members: Members) -> Members:
        """Accepted also while endpoints use the configuration: they continue, as on AWS."""
        self._tags.drop(self._resources.remove(caller, members["EndpointConfigName"]).arn)
        return {}

    def _check(self, caller: Caller, members: Members) -> None:
        self._resources.check_unused(members["EndpointConfigName"])
        variants = members["ProductionVariants"]
        names = [variant["VariantName"] for variant in variants]
        if len(set(names)) < len(names):
            raise ApiError("VariantName must be unique among the production variants.")
        multi_model = [self._check_variant(caller, variant) for variant in variants]
        for member, feature in _UNSUPPORTED.items():
            if member in members:
                raise ApiError(f"{feature} is not {_available_where(any(multi_model))}: {member}.")

    def _check_variant(self, caller: Caller, variant: Members) -> bool:
        """Raises ApiError, or returns whether the variant's model is multi-model."""
        if "ModelName" not in variant:
            raise ApiError("Inference components are not available here: give a ModelName.")
        multi_model = self._models.find(caller, variant["ModelName"]).spec.multi_model
        if "ServerlessConfig" in variant:
            raise ApiError(
                f"Serverless inference is not {_available_where(multi_model)}: variant "
                f"{variant['VariantName']}."
            )
        for member in ("InstanceType", "InitialInstanceCount"):
            if member not in variant:
                raise ApiError(f"Variant {variant['VariantName']} needs {member}.")
        if multi_model:
            _check_instance_type(variant["InstanceType"])
        return multi_model

    def _spec(self, caller: Caller, variant: Members) -> VariantSpec:
        return VariantSpec(
            name=variant["VariantName"],
            model=self._models.find(caller, variant["ModelName"]).spec,
            instance_type=variant["InstanceType"],
            instance_count=variant["InitialInstanceCount"],
            weight=variant.get("InitialVariantWeight", 1.0),
            volume_size_gb=variant.get("VolumeSizeInGB"),
            startup_timeout_s=variant.get("ContainerStartupHealthCheckTimeoutInSeconds"),
            download_timeout_s=variant.get("ModelDataDownloadTimeoutInSeconds"),
        )


def _available_where(multi_model: bool) -> str:
    return "supported with MultiModel mode" if multi_model else "available here"


def _check_instance_type(instance_type: str) -> None:
    match multi_model_support(instance_type):
        case MultiModelSupport.REFUSED:
            raise ApiError(f"MultiModel mode is not supported for instance type {instance_type}.")
        case MultiModelSupport.UNDOCUMENTED:
            log.warning("instance type undocumented for multi-model", extra={"type": instance_type})


def _summary(config: EndpointConfig) -> Members:
    return {
        "EndpointConfigName": config.name,
        "EndpointConfigArn": config.arn,
        "CreationTime": config.created,
    }
