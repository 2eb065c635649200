"""What the CloudFormation template makes of its parameters, on the local platform without containers."""

import json
from collections.abc import Iterator
from typing import Any

import pytest
from botocore.exceptions import ClientError

from emulator.platform import LocalSageMaker
from tests.emulator.control.fleets import fake_hosting
from tests.scripts.runs import SCRIPTS
from tests.scripts.stacks import NAME, TEMPLATE, Account, stack


@pytest.fixture(scope="module")
def account() -> Iterator[Account]:
    with LocalSageMaker(fake_hosting, environ={}) as platform:
        yield Account(platform, platform.client("cloudformation"))


def test_autoscaling_and_a_role_of_its_own(account: Account) -> None:
    account.create(MinInstanceCount="1", MaxInstanceCount="2", InvocationsPerInstance="300")
    scaling = account.platform.client("application-autoscaling")
    (target,) = scaling.describe_scalable_targets(ServiceNamespace="sagemaker")["ScalableTargets"]
    assert target["ResourceId"] == f"endpoint/{NAME}/variant/AllTraffic"
    assert (target["MinCapacity"], target["MaxCapacity"]) == (1, 2)
    (policy,) = scaling.describe_scaling_policies(ServiceNamespace="sagemaker")["ScalingPolicies"]
    assert policy["TargetTrackingScalingPolicyConfiguration"]["TargetValue"] == 300
    (role,) = account.platform.client("iam").list_roles()["Roles"]
    assert role["Arn"] == account.outputs()["ExecutionRoleArn"]
    assert statements(account, role) == written("execution-role.json")
    assert role["AssumeRolePolicyDocument"] == json.loads(policies("trust.json"))
    account.delete()
    assert account.left() == []


def test_on_a_gpu_type_the_driver_fits_the_image(account: Account) -> None:
    account.create(InstanceType="ml.g5.xlarge", Cuda="12.4", Device="cpu", VolumeSizeInGB="100")
    variant = account.variant()
    assert variant["InferenceAmiVersion"] == "al2-ami-sagemaker-inference-gpu-3-1"
    assert variant["VolumeSizeInGB"] == 100
    account.delete()


def test_an_update_keeps_the_instances_that_autoscaling_has_added(account: Account) -> None:
    account.create(InstanceCount="2")
    client = account.platform.client("sagemaker")
    client.update_endpoint_weights_and_capacities(
        EndpointName=NAME,
        DesiredWeightsAndCapacities=[{"VariantName": "AllTraffic", "DesiredInstanceCount": 3}],
    )
    account.update(InstanceCount="2", MaxBatchSize="16")
    assert account.variant()["CurrentInstanceCount"] == 3
    account.update(InstanceCount="2", MaxBatchSize="8", Autoscaling="Disabled")
    assert account.variant()["CurrentInstanceCount"] == 2
    account.delete()


def test_the_containers_environment(account: Account) -> None:
    account.create(Device="cuda:0", Dtype="float16", DeviceMemory="20GB", LogLevel="DEBUG")
    sagemaker = account.platform.client("sagemaker")
    model = sagemaker.describe_model(ModelName=account.variant()["ModelName"])
    assert model["PrimaryContainer"]["ModelDataUrl"] == account.outputs()["ModelDataUrl"]
    assert model["PrimaryContainer"]["Environment"] == {
        "MME_DEVICE": "cuda:0",
        "MME_DTYPE": "float16",
        "MME_DEVICE_MEMORY": "20GB",
        "MME_MAX_BATCH_SIZE": "32",
        "SAGEMAKER_CONTAINER_LOG_LEVEL": "DEBUG",
    }
    account.delete()


def test_a_failed_creation_leaves_nothing(account: Account) -> None:
    account.client.create_stack(**stack({"InstanceType": "ml.p4d.24xlarge"}), TemplateBody=TEMPLATE)
    (described,) = account.client.describe_stacks(StackName=NAME)["Stacks"]
    assert described["StackStatus"] == "ROLLBACK_COMPLETE"
    told = account.client.describe_stack_events(StackName=NAME)["StackEvents"]
    (failed,) = [event for event in told if event["ResourceStatus"] == "CREATE_FAILED"]
    assert "not supported for instance type ml.p4d.24xlarge" in failed["ResourceStatusReason"]
    assert account.left() == []
    account.delete()


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("Image", "mme:latest", "an image in ECR"),
        ("ModelsBucket", "s3://my-bucket/", "without s3://"),
        ("ModelsPrefix", "models", "its slash at the end"),
        ("ModelsPrefix", "*/", "its slash at the end"),
        ("ExecutionRoleArn", "many-models", "the ARN of a role"),
        ("InstanceCount", "0", "not less than 1"),
        ("Cuda", "11", "one of AllowedValues: 12.2, 12.4, 13.0"),
    ],
)
def test_wrong_parameters_are_refused(name: str, value: str, said: str, account: Account) -> None:
    with pytest.raises(ClientError) as caught:
        account.create(**{name: value})
    assert said in str(caught.value)
    assert account.left() == []


def statements(account: Account, role: Any) -> Any:
    given = account.platform.client("iam").get_role_policy(
        RoleName=role["RoleName"], PolicyName="serve"
    )
    return given["PolicyDocument"]["Statement"]


def written(policy: str) -> Any:
    return json.loads(policies(policy))["Statement"]


def policies(name: str) -> str:
    return (SCRIPTS / "policies" / name).read_text(encoding="utf-8")
