"""One platform without containers for all tests in here; every test works on a stack of its own."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError, WaiterError

from emulator.platform import LocalSageMaker
from tests.emulator.control.fleets import fake_hosting

ROLE = "arn:aws:iam::123456789012:role/execution"
TEMPLATE = Path(__file__).with_name("endpoint.yaml").read_text(encoding="utf-8")
_numbers = count()


@pytest.fixture(scope="package")
def aws() -> Iterator[LocalSageMaker]:
    with LocalSageMaker(fake_hosting, patience_s=2, environ={}) as platform:
        yield platform


@dataclass(frozen=True)
class Named:
    """A stack by its name, through boto3 alone."""

    aws: LocalSageMaker
    name: str
    client: Any
    sagemaker: Any

    def create(self, template: str = TEMPLATE, **given: Any) -> None:
        self.start(template, **given)
        self.wait("stack_create_complete")

    def start(self, template: str = TEMPLATE, *, options: Any = None, **parameters: str) -> None:
        self.client.create_stack(
            StackName=self.name,
            TemplateBody=template,
            Parameters=listed(parameters),
            Capabilities=["CAPABILITY_NAMED_IAM"],
            **(options or {}),
        )

    def update(self, template: str | None = None, **parameters: str) -> None:
        what = {"TemplateBody": template} if template else {"UsePreviousTemplate": True}
        self.client.update_stack(
            StackName=self.name,
            Parameters=listed(parameters),
            Capabilities=["CAPABILITY_NAMED_IAM"],
            **what,
        )
        self.wait("stack_update_complete")

    def delete(self) -> None:
        self.client.delete_stack(StackName=self.name)
        self.wait("stack_delete_complete")

    def wait(self, state: str) -> None:
        self.client.get_waiter(state).wait(StackName=self.name)

    def fails(self, action: str, *args: Any, **given: Any) -> str:
        """Acts, and hands back the status that the stack ends in instead."""
        with pytest.raises(WaiterError):
            getattr(self, action)(*args, **given)
        return str(self.described["StackStatus"])

    def refused(self, action: str, *args: Any, code: str = "ValidationError", **given: Any) -> str:
        with pytest.raises(ClientError) as caught:
            getattr(self, action)(*args, **given)
        assert caught.value.response["Error"]["Code"] == code
        return str(caught.value.response["Error"]["Message"])

    @property
    def described(self) -> Any:
        return self.client.describe_stacks(StackName=self.name)["Stacks"][0]

    @property
    def outputs(self) -> dict[str, str]:
        return {o["OutputKey"]: o["OutputValue"] for o in self.described["Outputs"]}

    @property
    def resources(self) -> dict[str, str]:
        listed = self.client.describe_stack_resources(StackName=self.name)["StackResources"]
        return {r["LogicalResourceId"]: r["PhysicalResourceId"] for r in listed}

    def events(self, logical_id: str) -> list[str]:
        """What became of it, the last first: the status, and why."""
        told = self.client.describe_stack_events(StackName=self.described["StackId"])["StackEvents"]
        own = [event for event in told if event["LogicalResourceId"] == logical_id]
        return [f"{e['ResourceStatus']} {e.get('ResourceStatusReason', '')}".strip() for e in own]

    def hosted(self) -> list[str]:
        """Every name of this stack's that SageMaker knows."""
        sagemaker = self.sagemaker
        kinds = ("Models", "EndpointConfigs", "Endpoints")
        calls = (sagemaker.list_models, sagemaker.list_endpoint_configs, sagemaker.list_endpoints)
        listed = [
            (kind, call(NameContains=self.name)) for kind, call in zip(kinds, calls, strict=True)
        ]
        return [entry[f"{kind[:-1]}Name"] for kind, answer in listed for entry in answer[kind]]

    def endpoint(self) -> Any:
        return self.sagemaker.describe_endpoint(EndpointName=self.name)


def listed(parameters: dict[str, str]) -> list[dict[str, str]]:
    return [{"ParameterKey": k, "ParameterValue": v} for k, v in parameters.items()]


@pytest.fixture(scope="package")
def client(aws: LocalSageMaker) -> Any:
    return aws.client("cloudformation")


@pytest.fixture(scope="package")
def sagemaker(aws: LocalSageMaker) -> Any:
    return aws.client("sagemaker")


@pytest.fixture
def stack(aws: LocalSageMaker, client: Any, sagemaker: Any) -> Named:
    return Named(aws, f"stack{next(_numbers)}x", client, sagemaker)
