"""The CloudFormation template: rendered, and its resources created on the local platform.

The platform emulates no stacks: these tests evaluate the template's parameters, conditions and functions, and
make the calls that CloudFormation would make.
"""

import json
import os
import shlex
from pathlib import Path
from typing import Any

import pytest

from emulator.hosting.fleet_hosting import create_hosting
from emulator.platform import LocalSageMaker
from tests import archives, artifacts
from tests.scripts.resources import Resources
from tests.scripts.runs import SCRIPTS
from tests.scripts.template import IMAGE, STACK, Template

ROLE = "arn:aws:iam::123456789012:role/many-models"


def test_the_resources_serve_and_everything_is_deleted(tmp_path: Path) -> None:
    """Creates every resource of the template, with a real container behind the endpoint."""
    archive = archives.packed(artifacts.bert_classifier(tmp_path / "sentiment"))
    environ = {k: v for k, v in os.environ.items() if not k.startswith("AWS_")}
    template = Template(MinInstanceCount="1", MaxInstanceCount="2", InvocationsPerInstance="300")
    with LocalSageMaker(lambda url: create_hosting(s3=url), environ=environ) as platform:
        s3 = platform.client("s3")
        s3.create_bucket(Bucket="my-bucket")
        s3.put_object(Bucket="my-bucket", Key="models/sentiment.tar.gz", Body=archive)
        resources = Resources(platform, template)
        resources.create()
        assert_as_declared(resources.existing(), template)
        command = shlex.split(template.output("InvokeCommand"))
        assert command[command.index("--endpoint-name") + 1] == STACK
        target = command[command.index("--target-model") + 1]
        assert "score" in resources.invoke(target)[0]
        resources.delete()
        assert not any(resources.existing().values())


def assert_as_declared(existing: dict[str, list[Any]], template: Template) -> None:
    assert all(len(resources) == 1 for resources in existing.values())
    assert existing["endpoints"][0]["EndpointStatus"] == "InService"
    assert existing["roles"][0]["Arn"] == template.output("ExecutionRoleArn")
    (target,) = existing["targets"]
    assert target["ResourceId"] == f"endpoint/{STACK}/variant/AllTraffic"
    assert (target["MinCapacity"], target["MaxCapacity"]) == (1, 2)
    configuration = existing["policies"][0]["TargetTrackingScalingPolicyConfiguration"]
    assert configuration["TargetValue"] == 300


def test_without_autoscaling_and_with_a_given_role() -> None:
    template = Template(Autoscaling="Disabled", ExecutionRoleArn=ROLE)
    for resource in ("ScalableTarget", "ScalingPolicy", "ExecutionRole"):
        assert template.properties(resource) is None
    assert properties(template, "Model")["ExecutionRoleArn"] == ROLE
    template.attributes["EndpointConfig.EndpointConfigName"] = "config"
    assert properties(template, "Endpoint")["RetainAllVariantProperties"] is False


def test_an_update_keeps_the_instances_that_autoscaling_has_added() -> None:
    template = Template()
    template.attributes["EndpointConfig.EndpointConfigName"] = "config"
    assert properties(template, "Endpoint")["RetainAllVariantProperties"] is True


def test_the_created_role_has_the_statements_of_the_policy_files() -> None:
    role = properties(Template(), "ExecutionRole")
    (policy,) = role["Policies"]
    assert policy["PolicyDocument"] == policy_file("execution-role.json")
    assert role["AssumeRolePolicyDocument"] == policy_file("trust.json")


@pytest.mark.parametrize(
    ("instance_type", "cuda", "ami"),
    [
        ("ml.g5.xlarge", "12.4", "al2-ami-sagemaker-inference-gpu-3-1"),
        ("ml.p5.4xlarge", "13.0", "al2023-ami-sagemaker-inference-gpu-4-1"),
        ("ml.m5.xlarge", "13.0", None),
    ],
)
def test_on_a_gpu_type_the_driver_fits_the_image(
    instance_type: str, cuda: str, ami: str | None
) -> None:
    variant = rendered_variant(InstanceType=instance_type, Cuda=cuda)
    assert variant.get("InferenceAmiVersion") == ami


def test_the_volume_is_optional() -> None:
    assert "VolumeSizeInGB" not in rendered_variant()
    assert rendered_variant(VolumeSizeInGB="100")["VolumeSizeInGB"] == 100


def test_the_containers_environment() -> None:
    template = Template(
        Device="cuda:0",
        Dtype="float16",
        DeviceMemory="20GB",
        LogLevel="DEBUG",
        ExecutionRoleArn=ROLE,
    )
    container = properties(template, "Model")["PrimaryContainer"]
    assert container["ModelDataUrl"] == template.output("ModelDataUrl") == "s3://my-bucket/models/"
    assert container["Image"] == IMAGE
    assert container["Environment"] == {
        "MME_DEVICE": "cuda:0",
        "MME_DTYPE": "float16",
        "MME_DEVICE_MEMORY": "20GB",
        "MME_MAX_BATCH_SIZE": 32,
        "SAGEMAKER_CONTAINER_LOG_LEVEL": "DEBUG",
    }


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("Image", "mme:latest", "an image in ECR"),
        ("ModelsBucket", "s3://my-bucket/", "without s3://"),
        ("ModelsPrefix", "models", "ends with a slash"),
        ("ModelsPrefix", "*/", "ends with a slash"),
        ("ExecutionRoleArn", "many-models", "the ARN of a role"),
        ("InstanceCount", "0", "InstanceCount"),
        ("Cuda", "11", "Cuda"),
    ],
)
def test_wrong_parameters_break_a_constraint(name: str, value: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Template(**{name: value})


def rendered_variant(**parameters: str) -> dict[str, Any]:
    template = Template(**parameters)
    template.attributes["Model.ModelName"] = "model"
    (variant,) = properties(template, "EndpointConfig")["ProductionVariants"]
    rendered: dict[str, Any] = variant
    return rendered


def properties(template: Template, resource: str) -> dict[str, Any]:
    rendered = template.properties(resource)
    assert rendered is not None
    return rendered


def policy_file(name: str) -> Any:
    return json.loads((SCRIPTS / "policies" / name).read_text(encoding="utf-8"))
