"""CreateModel, DescribeModel, DeleteModel: accepted and refused requests."""

from typing import Any

import pytest

from tests.emulator.deployments import IMAGE, ROLE, Deployment, ExpectError

ARN = "arn:aws:sagemaker:us-east-1:123456789012:model/"
SINGLE = {"Image": IMAGE}
MULTI = {"Image": IMAGE, "Mode": "MultiModel", "ModelDataUrl": "s3://bucket/prefix/"}


def test_a_model_is_described_as_it_was_created(sagemaker: Any, name: str) -> None:
    container = MULTI | {
        "Environment": {"KEY": "value"},
        "MultiModelConfig": {"ModelCacheSetting": "Disabled"},
    }
    sagemaker.create_model(
        ModelName=name, ExecutionRoleArn=ROLE, PrimaryContainer=container, Tags=[]
    )
    described = sagemaker.describe_model(ModelName=name)
    assert described["PrimaryContainer"] == container
    assert described["ModelArn"] == ARN + name
    assert described["ExecutionRoleArn"] == ROLE
    assert described["EnableNetworkIsolation"] is False
    assert "Containers" not in described
    assert "Tags" not in described


def test_a_pipeline_keeps_its_order(sagemaker: Any, name: str) -> None:
    containers = [
        SINGLE | {"ContainerHostname": "first"},
        MULTI | {"ContainerHostname": "second"},
    ]
    sagemaker.create_model(ModelName=name, ExecutionRoleArn=ROLE, Containers=containers)
    described = sagemaker.describe_model(ModelName=name)["Containers"]
    assert [c["ContainerHostname"] for c in described] == ["first", "second"]
    assert [c["Mode"] for c in described] == ["SingleModel", "MultiModel"]


def test_an_empty_structure_is_left_out_of_a_response(sagemaker: Any, name: str) -> None:
    container: dict[str, Any] = MULTI | {"MultiModelConfig": {}}
    sagemaker.create_model(ModelName=name, ExecutionRoleArn=ROLE, PrimaryContainer=container)
    assert "MultiModelConfig" not in sagemaker.describe_model(ModelName=name)["PrimaryContainer"]


def test_the_region_of_an_arn_is_that_of_the_signature(aws: Any, name: str) -> None:
    elsewhere = Deployment(aws.client("sagemaker", region_name="eu-west-3"))
    assert elsewhere.model(name) == f"arn:aws:sagemaker:eu-west-3:123456789012:model/{name}"


@pytest.mark.parametrize(
    "url",
    [
        "s3://bucket",
        "s3://bucket/",
        "s3://bucket/prefix",
        "s3://bucket/a/b/",
        "https://s3-us-west-2.amazonaws.com/bucket/prefix",
        "https://s3.us-east-1.amazonaws.com/bucket/prefix/",
        "https://bucket.s3.amazonaws.com/prefix/",
    ],
)
def test_every_form_of_a_prefix_is_accepted(deploy: Deployment, name: str, url: str) -> None:
    assert deploy.model(name, ModelDataUrl=url) == ARN + name


def test_duplicate_and_missing_names(deploy: Deployment, refused: ExpectError, name: str) -> None:
    arn = deploy.model(name)
    again = refused("create_model", ModelName=name, ExecutionRoleArn=ROLE, PrimaryContainer=SINGLE)
    assert again == f'Cannot create already existing model "{arn}".'
    deploy.sagemaker.delete_model(ModelName=name)
    for operation in ("describe_model", "delete_model"):
        assert refused(operation, ModelName=name) == f'Could not find model "{arn}".'


def test_a_role_is_required(refused: ExpectError, name: str) -> None:
    message = refused("create_model", ModelName=name, PrimaryContainer=MULTI)
    assert message == (
        "1 validation error detected: Value null at 'executionRoleArn' failed to satisfy "
        "constraint: Member must not be null"
    )


@pytest.mark.parametrize(
    ("members", "message"),
    [
        ({}, "Specify a PrimaryContainer or at least one of Containers."),
        ({"Containers": []}, "Specify a PrimaryContainer or at least one of Containers."),
        (
            {"PrimaryContainer": MULTI, "Containers": [MULTI]},
            "Specify either PrimaryContainer or Containers, not both.",
        ),
        (
            {"Containers": [MULTI, MULTI]},
            "More than one container in MultiModel mode is not supported with inference pipeline.",
        ),
        (
            {"Containers": [SINGLE, MULTI | {"ContainerHostname": "b"}]},
            "Give a ContainerHostname to all containers of a pipeline or to none.",
        ),
        (
            {"Containers": [c | {"ContainerHostname": "b"} for c in (SINGLE, MULTI)]},
            "ContainerHostname must be unique among the containers of a model.",
        ),
        (
            {"Containers": [SINGLE, MULTI], "InferenceExecutionConfig": {"Mode": "Direct"}},
            "Direct inference execution is not supported with MultiModel mode.",
        ),
        (
            {"Containers": [SINGLE, SINGLE], "InferenceExecutionConfig": {"Mode": "Direct"}},
            "Direct inference execution is not available here: pipelines are serial.",
        ),
    ],
)
def test_combinations_of_containers(
    refused: ExpectError, name: str, members: dict[str, Any], message: str
) -> None:
    assert refused("create_model", ModelName=name, ExecutionRoleArn=ROLE, **members) == message


S3_SOURCE = {
    "S3DataSource": {
        "S3Uri": "s3://bucket/prefix/",
        "S3DataType": "S3Prefix",
        "CompressionType": "None",
    }
}


@pytest.mark.parametrize(
    ("container", "message"),
    [
        (
            {"Mode": "MultiModel", "ModelDataUrl": "s3://b/"},
            "A container definition needs an Image.",
        ),
        (
            {"ModelPackageName": "package"},
            "Model packages are not available here: name the Image itself.",
        ),
        (
            {"Image": IMAGE, "Mode": "MultiModel"},
            "MultiModel mode needs a ModelDataUrl: the S3 prefix of the models.",
        ),
        (
            MULTI | {"ModelDataUrl": "s3://bucket/a/model.tar.gz"},
            (
                "ModelDataUrl s3://bucket/a/model.tar.gz is one archive; MultiModel mode needs the "
                "prefix that holds them, such as s3://bucket/prefix/."
            ),
        ),
        (
            MULTI | {"ModelDataUrl": "https://example.com/models/"},
            "ModelDataUrl https://example.com/models/ is no S3 prefix such as s3://bucket/prefix/.",
        ),
        (
            MULTI | {"ModelDataSource": S3_SOURCE},
            "ModelDataSource is not supported with MultiModel mode: use ModelDataUrl.",
        ),
        (
            SINGLE | {"ModelDataSource": S3_SOURCE},
            "ModelDataSource is not available here: use ModelDataUrl.",
        ),
        (
            SINGLE | {"MultiModelConfig": {"ModelCacheSetting": "Enabled"}},
            "MultiModelConfig can be given only with Mode MultiModel.",
        ),
    ],
)
def test_container_definitions(
    refused: ExpectError, name: str, container: dict[str, Any], message: str
) -> None:
    assert (
        refused("create_model", ModelName=name, ExecutionRoleArn=ROLE, PrimaryContainer=container)
        == message
    )
