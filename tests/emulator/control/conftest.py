"""One platform for all tests in here; every test works under names of its own."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import count
from typing import Any

import pytest

from emulator.platform import LocalSageMaker
from tests.emulator.control.fleets import fake_hosting

ROLE = "arn:aws:iam::123456789012:role/execution"
IMAGE = "123456789012.dkr.ecr.us-east-1.amazonaws.com/mme:latest"
_numbers = count()


@pytest.fixture(scope="package")
def aws() -> Iterator[LocalSageMaker]:
    with LocalSageMaker(fake_hosting, patience_s=2, environ={}) as platform:
        yield platform


@pytest.fixture(scope="package")
def sagemaker(aws: LocalSageMaker) -> Any:
    return aws.client("sagemaker")


@pytest.fixture(scope="package")
def runtime(aws: LocalSageMaker) -> Any:
    return aws.client("sagemaker-runtime")


@pytest.fixture
def name() -> str:
    """A name no other test uses."""
    return f"n{next(_numbers)}"


@dataclass(frozen=True)
class Deployment:
    """Creates what an endpoint needs, all under one name."""

    sagemaker: Any

    def model(self, name: str, image: str = IMAGE, **more: Any) -> str:
        container = {"Image": image, "Mode": "MultiModel", "ModelDataUrl": "s3://bucket/prefix/"}
        answer = self.sagemaker.create_model(
            ModelName=name, ExecutionRoleArn=ROLE, PrimaryContainer=container | more
        )
        arn: str = answer["ModelArn"]
        return arn

    def config(self, name: str, *variants: dict[str, Any]) -> str:
        given = variants or ({},)
        answer = self.sagemaker.create_endpoint_config(
            EndpointConfigName=name,
            ProductionVariants=[variant(name) | changed for changed in given],
        )
        arn: str = answer["EndpointConfigArn"]
        return arn

    def endpoint(self, name: str, image: str = IMAGE) -> None:
        self.model(name, image)
        self.config(name)
        self.sagemaker.create_endpoint(EndpointName=name, EndpointConfigName=name)


def variant(model: str) -> dict[str, Any]:
    return {
        "VariantName": "one",
        "ModelName": model,
        "InstanceType": "ml.m5.xlarge",
        "InitialInstanceCount": 2,
    }


@pytest.fixture
def deploy(sagemaker: Any) -> Deployment:
    return Deployment(sagemaker)


Refusal = Callable[..., str]


@pytest.fixture
def refused(sagemaker: Any) -> Refusal:
    """Calls and hands back the message of the ValidationException that has to come."""
    from botocore.exceptions import ClientError

    def call(operation: str, code: str = "ValidationException", **members: Any) -> str:
        with pytest.raises(ClientError) as caught:
            getattr(sagemaker, operation)(**members)
        error = caught.value.response["Error"]
        assert error["Code"] == code, error
        message: str = error["Message"]
        return message

    return call
