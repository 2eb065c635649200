"""One stack of the CloudFormation template, through boto3 alone."""

import json
from dataclasses import dataclass
from typing import Any

from emulator.platform import LocalSageMaker
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
