"""CreateEndpointConfig, DescribeEndpointConfig, DeleteEndpointConfig."""

from typing import Any

import pytest

from tests.emulator.deployments import IMAGE, ROLE, Deployment, ExpectError, variant

ARN = "arn:aws:sagemaker:us-east-1:123456789012:"


def test_a_config_is_described_as_it_was_created(
    deploy: Deployment, sagemaker: Any, name: str
) -> None:
    deploy.model(name)
    given = {"VolumeSizeInGB": 10, "ContainerStartupHealthCheckTimeoutInSeconds": 600}
    assert deploy.config(name, given) == f"{ARN}endpoint-config/{name}"
    described = sagemaker.describe_endpoint_config(EndpointConfigName=name)
    assert described["ProductionVariants"] == [
        variant(name) | given | {"InitialVariantWeight": 1.0}
    ]
    assert described["EndpointConfigArn"] == f"{ARN}endpoint-config/{name}"


def test_duplicate_and_missing_names(deploy: Deployment, refused: ExpectError, name: str) -> None:
    deploy.model(name)
    arn = deploy.config(name)
    again = refused(
        "create_endpoint_config", EndpointConfigName=name, ProductionVariants=[variant(name)]
    )
    assert again == f'Cannot create already existing endpoint configuration "{arn}".'
    deploy.sagemaker.delete_endpoint_config(EndpointConfigName=name)
    for operation in ("describe_endpoint_config", "delete_endpoint_config"):
        message = refused(operation, EndpointConfigName=name)
        assert message == f'Could not find endpoint configuration "{arn}".'


def test_the_model_must_exist(refused: ExpectError, name: str) -> None:
    message = refused(
        "create_endpoint_config", EndpointConfigName=name, ProductionVariants=[variant(name)]
    )
    assert message == f'Could not find model "{ARN}model/{name}".'


@pytest.mark.parametrize(
    "instance_type",
    [
        "ml.t2.medium",
        "ml.m5d.large",
        "ml.c7g.large",
        "ml.r8g.xlarge",
        "ml.p2.xlarge",
        "ml.p3.2xlarge",
        "ml.g4dn.16xlarge",
        "ml.g5.xlarge",
        "ml.g6.xlarge",
        "ml.g6e.4xlarge",
        "ml.p5.4xlarge",
    ],
)
def test_instance_types_for_multi_model(deploy: Deployment, name: str, instance_type: str) -> None:
    deploy.model(name)
    assert deploy.config(name, {"InstanceType": instance_type})


@pytest.mark.parametrize(
    "instance_type",
    [
        "ml.p2.8xlarge",
        "ml.p3.8xlarge",
        "ml.g4dn.12xlarge",
        "ml.g5.48xlarge",
        "ml.g6.12xlarge",
        "ml.p4d.24xlarge",
        "ml.p5.48xlarge",
        "ml.inf1.xlarge",
        "ml.inf2.xlarge",
        "ml.trn1.2xlarge",
        "ml.dl1.24xlarge",
    ],
)
def test_instance_types_not_for_multi_model(
    deploy: Deployment, refused: ExpectError, name: str, instance_type: str
) -> None:
    deploy.model(name)
    message = refused(
        "create_endpoint_config",
        EndpointConfigName=name,
        ProductionVariants=[variant(name) | {"InstanceType": instance_type}],
    )
    assert message == f"MultiModel mode is not supported for instance type {instance_type}."


def test_a_single_model_may_have_any_instance_type(sagemaker: Any, name: str) -> None:
    sagemaker.create_model(ModelName=name, ExecutionRoleArn=ROLE, PrimaryContainer={"Image": IMAGE})
    config = Deployment(sagemaker).config(name, {"InstanceType": "ml.inf2.xlarge"})
    assert config.endswith(name)


def test_variant_names_are_unique(deploy: Deployment, refused: ExpectError, name: str) -> None:
    deploy.model(name)
    message = refused(
        "create_endpoint_config",
        EndpointConfigName=name,
        ProductionVariants=[variant(name), variant(name)],
    )
    assert message == "VariantName must be unique among the production variants."


SERVERLESS = {"ServerlessConfig": {"MemorySizeInMB": 2048, "MaxConcurrency": 1}}


@pytest.mark.parametrize(
    ("dropped", "added", "message"),
    [
        ("ModelName", {}, "Inference components are not available here: give a ModelName."),
        ("InstanceType", {}, "Variant one needs InstanceType."),
        ("InitialInstanceCount", {}, "Variant one needs InitialInstanceCount."),
        (
            "InstanceType",
            SERVERLESS,
            "Serverless inference is not supported with MultiModel mode: variant one.",
        ),
    ],
)
def test_variants(
    deploy: Deployment,
    refused: ExpectError,
    name: str,
    dropped: str,
    added: dict[str, Any],
    message: str,
) -> None:
    deploy.model(name)
    given = variant(name) | added
    del given[dropped]
    assert message == refused(
        "create_endpoint_config", EndpointConfigName=name, ProductionVariants=[given]
    )


@pytest.mark.parametrize(
    ("members", "feature"),
    [
        (
            {"AsyncInferenceConfig": {"OutputConfig": {"S3OutputPath": "s3://bucket/out"}}},
            "Asynchronous inference",
        ),
        (
            {
                "DataCaptureConfig": {
                    "InitialSamplingPercentage": 100,
                    "DestinationS3Uri": "s3://b",
                    "CaptureOptions": [{"CaptureMode": "Input"}],
                }
            },
            "Data capture",
        ),
    ],
)
def test_features_that_multi_model_endpoints_lack(
    deploy: Deployment, refused: ExpectError, name: str, members: dict[str, Any], feature: str
) -> None:
    deploy.model(name)
    message = refused(
        "create_endpoint_config",
        EndpointConfigName=name,
        ProductionVariants=[variant(name)],
        **members,
    )
    assert message == f"{feature} is not supported with MultiModel mode: {next(iter(members))}."
