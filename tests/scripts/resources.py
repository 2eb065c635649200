"""Creates and deletes the resources of a rendered template with the calls that CloudFormation would make."""

import json
from typing import Any

from emulator.platform import LocalSageMaker
from tests.scripts.template import STACK, Template

_SAGEMAKER = {"ServiceNamespace": "sagemaker"}
_DIMENSION = {**_SAGEMAKER, "ScalableDimension": "sagemaker:variant:DesiredInstanceCount"}


class Resources:
    """Every created resource adds its attributes to the template."""

    def __init__(self, platform: LocalSageMaker, template: Template) -> None:
        self._template = template
        self._iam = platform.client("iam")
        self._sagemaker = platform.client("sagemaker")
        self._scaling = platform.client("application-autoscaling")
        self._runtime = platform.client("sagemaker-runtime")

    def create(self) -> None:
        self._create_role()
        model = self._properties("Model")
        variables = model["PrimaryContainer"]["Environment"]
        variables.update({name: str(value) for name, value in variables.items()})
        self._sagemaker.create_model(ModelName=STACK, **model)
        self._template.attributes["Model.ModelName"] = STACK
        config = self._properties("EndpointConfig")
        self._sagemaker.create_endpoint_config(EndpointConfigName=STACK, **config)
        self._template.attributes["EndpointConfig.EndpointConfigName"] = STACK
        self._create_endpoint()
        self._create_scaling()

    def delete(self) -> None:
        if self._template.properties("ScalableTarget"):
            policy = self._properties("ScalingPolicy")["PolicyName"]
            self._scaling.delete_scaling_policy(PolicyName=policy, **self._target())
            self._scaling.deregister_scalable_target(**self._target())
        self._sagemaker.delete_endpoint(EndpointName=STACK)
        self._sagemaker.get_waiter("endpoint_deleted").wait(EndpointName=STACK)
        self._sagemaker.delete_endpoint_config(EndpointConfigName=STACK)
        self._sagemaker.delete_model(ModelName=STACK)
        if role := self._template.properties("ExecutionRole"):
            for policy in role["Policies"]:
                self._iam.delete_role_policy(RoleName=STACK, PolicyName=policy["PolicyName"])
            self._iam.delete_role(RoleName=STACK)

    def invoke(self, model: str) -> Any:
        answer = self._runtime.invoke_endpoint(
            EndpointName=STACK,
            TargetModel=model,
            ContentType="application/json",
            Body=json.dumps({"inputs": "I love this little camera."}),
        )
        return json.loads(answer["Body"].read())

    def existing(self) -> dict[str, list[Any]]:
        return {
            "roles": self._iam.list_roles()["Roles"],
            "models": self._sagemaker.list_models()["Models"],
            "configs": self._sagemaker.list_endpoint_configs()["EndpointConfigs"],
            "endpoints": self._sagemaker.list_endpoints()["Endpoints"],
            "targets": self._scaling.describe_scalable_targets(**_SAGEMAKER)["ScalableTargets"],
            "policies": self._scaling.describe_scaling_policies(**_SAGEMAKER)["ScalingPolicies"],
        }

    def _create_role(self) -> None:
        role = self._template.properties("ExecutionRole")
        if role is None:
            return
        trust = json.dumps(role["AssumeRolePolicyDocument"])
        made = self._iam.create_role(
            RoleName=STACK, Description=role["Description"], AssumeRolePolicyDocument=trust
        )
        for policy in role["Policies"]:
            document = json.dumps(policy["PolicyDocument"])
            self._iam.put_role_policy(
                RoleName=STACK, PolicyName=policy["PolicyName"], PolicyDocument=document
            )
        self._template.attributes["ExecutionRole.Arn"] = made["Role"]["Arn"]

    def _create_endpoint(self) -> None:
        endpoint = self._properties("Endpoint")
        del endpoint["RetainAllVariantProperties"]  # for UpdateEndpoint only
        self._sagemaker.create_endpoint(**endpoint)
        self._sagemaker.get_waiter("endpoint_in_service").wait(EndpointName=STACK)
        self._template.attributes["Endpoint.EndpointName"] = endpoint["EndpointName"]

    def _create_scaling(self) -> None:
        target = self._template.properties("ScalableTarget")
        if target is None:
            return
        self._scaling.register_scalable_target(**target)
        self._template.attributes["ScalableTarget"] = target["ResourceId"]
        policy = self._properties("ScalingPolicy")
        assert policy.pop("ScalingTargetId") == target["ResourceId"]
        self._scaling.put_scaling_policy(**policy, **self._target())

    def _target(self) -> dict[str, str]:
        return {**_DIMENSION, "ResourceId": self._template.attributes["ScalableTarget"]}

    def _properties(self, resource: str) -> dict[str, Any]:
        properties = self._template.properties(resource)
        assert properties is not None, f"{resource} has a condition that is false"
        return properties
