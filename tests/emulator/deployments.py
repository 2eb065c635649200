"""Creates models, endpoint configurations and endpoints through boto3."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

ROLE = "arn:aws:iam::123456789012:role/execution"
IMAGE = "123456789012.dkr.ecr.us-east-1.amazonaws.com/mme:latest"

# Makes a call that must fail, and returns the message of its error.
ExpectError = Callable[..., str]


@dataclass(frozen=True)
class Deployment:
    """Creates the resources of an endpoint under one common name."""

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
