"""The CloudFormation template as a stack on the local platform, with real containers behind its endpoint."""

import json
import os
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest
from botocore.exceptions import ClientError

from emulator.hosts import create_hosting
from emulator.platform import LocalSageMaker
from tests import artifacts
from tests.scripts.runs import SCRIPTS

TEMPLATE = (SCRIPTS / "cloudformation/endpoint.yaml").read_text(encoding="utf-8")
IMAGE = "123456789012.dkr.ecr.us-east-1.amazonaws.com/mme:latest"
ROLE = "arn:aws:iam::123456789012:role/many-models"
NAME = "many-models"


@dataclass(frozen=True)
class Account:
    """What boto3 does with one stack, and sees of what is left."""

    platform: LocalSageMaker
    client: Any

    def create(self, **parameters: str) -> None:
        self.client.create_stack(**stack(parameters), TemplateBody=TEMPLATE)
        self.client.get_waiter("stack_create_complete").wait(StackName=NAME)

    def update(self, **parameters: str) -> None:
        self.client.update_stack(**stack(parameters), UsePreviousTemplate=True)
        self.client.get_waiter("stack_update_complete").wait(StackName=NAME)

    def delete(self) -> None:
        self.client.delete_stack(StackName=NAME)
        self.client.get_waiter("stack_delete_complete").wait(StackName=NAME)

    def outputs(self) -> dict[str, str]:
        (described,) = self.client.describe_stacks(StackName=NAME)["Stacks"]
        return {output["OutputKey"]: output["OutputValue"] for output in described["Outputs"]}

    def invoke(self, model: str) -> Any:
        answer = self.platform.client("sagemaker-runtime").invoke_endpoint(
            EndpointName=NAME,
            TargetModel=model,
            ContentType="application/json",
            Body=json.dumps({"inputs": "I love this little camera."}),
        )
        return json.loads(answer["Body"].read())

    def variant(self) -> Any:
        """As it is, over as it was configured."""
        sagemaker = self.platform.client("sagemaker")
        endpoint = sagemaker.describe_endpoint(EndpointName=NAME)
        config = sagemaker.describe_endpoint_config(
            EndpointConfigName=endpoint["EndpointConfigName"]
        )
        return config["ProductionVariants"][0] | endpoint["ProductionVariants"][0]

    def left(self) -> list[Any]:
        sagemaker = self.platform.client("sagemaker")
        scaling = self.platform.client("application-autoscaling")
        of_sagemaker = {"ServiceNamespace": "sagemaker"}
        return [
            *sagemaker.list_models()["Models"],
            *sagemaker.list_endpoint_configs()["EndpointConfigs"],
            *sagemaker.list_endpoints()["Endpoints"],
            *scaling.describe_scalable_targets(**of_sagemaker)["ScalableTargets"],
            *scaling.describe_scaling_policies(**of_sagemaker)["ScalingPolicies"],
            *self.platform.client("iam").list_roles()["Roles"],
        ]


def stack(parameters: dict[str, str]) -> dict[str, Any]:
    given = {"Image": IMAGE, "ModelsBucket": "my-bucket", "InstanceCount": "1", **parameters}
    return {
        "StackName": NAME,
        "Capabilities": ["CAPABILITY_IAM"],
        "Parameters": [{"ParameterKey": k, "ParameterValue": v} for k, v in given.items()],
    }


@pytest.fixture(scope="module")
def account(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Account]:
    """One archive below the prefix."""
    archive = artifacts.packed(
        artifacts.bert_classifier(tmp_path_factory.mktemp("stack") / "sentiment")
    )
    environ = {k: v for k, v in os.environ.items() if not k.startswith("AWS_")}
    with LocalSageMaker(lambda url: create_hosting(s3=url), environ=environ) as platform:
        s3 = platform.client("s3")
        s3.create_bucket(Bucket="my-bucket")
        s3.put_object(Bucket="my-bucket", Key="models/sentiment.tar.gz", Body=archive)
        yield Account(platform, platform.client("cloudformation"))


def test_from_creation_to_deletion(account: Account) -> None:
    """It serves, grows, moves to another image and goes, and leaves nothing but the archive."""
    account.create(Autoscaling="Disabled", ExecutionRoleArn=ROLE)
    assert account.outputs()["EndpointName"] == NAME
    command = shlex.split(account.outputs()["InvokeCommand"])
    assert command[command.index("--endpoint-name") + 1] == NAME
    assert "score" in account.invoke(command[command.index("--target-model") + 1])[0]
    assert account.variant()["CurrentInstanceCount"] == 1
    account.update(Autoscaling="Disabled", ExecutionRoleArn=ROLE, InstanceCount="2")
    assert account.variant()["CurrentInstanceCount"] == 2
    account.update(Autoscaling="Disabled", ExecutionRoleArn=ROLE, Image=f"{IMAGE}-2")
    (image,) = account.variant()["DeployedImages"]
    assert image["SpecifiedImage"] == f"{IMAGE}-2"
    assert account.invoke("sentiment.tar.gz")
    account.delete()
    assert account.left() == []


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
    """Nothing is on a GPU here: the containers are processes of this machine, on its CPU."""
    account.create(InstanceType="ml.g5.xlarge", Cuda="12.4", Device="cpu", VolumeSizeInGB="100")
    variant = account.variant()
    assert variant["InferenceAmiVersion"] == "al2-ami-sagemaker-inference-gpu-3-1"
    assert variant["VolumeSizeInGB"] == 100
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
