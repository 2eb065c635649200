"""The states of an endpoint, the calls that each state refuses, and the response of DescribeEndpoint."""

import time
from typing import Any

import pytest
from botocore.exceptions import WaiterError

from tests.emulator.deployments import Deployment, ExpectError
from tests.emulator.fake_hosting import BROKEN_IMAGE, BUGGY_IMAGE, SLOW_IMAGE

ARN = "arn:aws:sagemaker:us-east-1:123456789012:endpoint/"
# The waiters poll every 30 s: a shorter time means that one poll was enough.
ONE_POLL_S = 15


def test_waiters_return_after_one_poll(deploy: Deployment, sagemaker: Any, name: str) -> None:
    started = time.monotonic()
    deploy.endpoint(name)
    sagemaker.get_waiter("endpoint_in_service").wait(EndpointName=name)
    sagemaker.delete_endpoint(EndpointName=name)
    sagemaker.get_waiter("endpoint_deleted").wait(EndpointName=name)
    assert time.monotonic() - started < ONE_POLL_S


def test_describe(deploy: Deployment, sagemaker: Any, name: str) -> None:
    deploy.endpoint(name)
    described = sagemaker.describe_endpoint(EndpointName=name)
    assert described["EndpointArn"] == ARN + name
    assert described["EndpointConfigName"] == name
    assert described["EndpointStatus"] == "InService"
    (shown,) = described["ProductionVariants"]
    assert shown["VariantName"] == "one"
    assert (shown["CurrentInstanceCount"], shown["DesiredInstanceCount"]) == (2, 2)
    assert (shown["CurrentWeight"], shown["DesiredWeight"]) == (1.0, 1.0)
    assert "FailureReason" not in described
    assert "LastDeploymentConfig" not in described


@pytest.mark.parametrize(
    ("image", "reason"),
    [
        (BROKEN_IMAGE, "The primary container did not pass the ping health check."),
        (
            BUGGY_IMAGE,
            "Request to service failed: internal error of the local platform; see its log.",
        ),
    ],
)
def test_a_failed_endpoint_has_a_reason(
    deploy: Deployment, sagemaker: Any, refused: ExpectError, name: str, image: str, reason: str
) -> None:
    deploy.endpoint(name, image)
    with pytest.raises(WaiterError):
        sagemaker.get_waiter("endpoint_in_service").wait(EndpointName=name)
    described = sagemaker.describe_endpoint(EndpointName=name)
    assert described["EndpointStatus"] == "Failed"
    assert described["FailureReason"] == reason
    assert "ProductionVariants" not in described
    message = refused("update_endpoint", EndpointName=name, EndpointConfigName=name)
    assert message == (
        f'Cannot update endpoint "{ARN}{name}" in status Failed: it can only be deleted.'
    )
    sagemaker.delete_endpoint(EndpointName=name)
    sagemaker.get_waiter("endpoint_deleted").wait(EndpointName=name)


def test_an_endpoint_in_creation_refuses_changes(
    deploy: Deployment, sagemaker: Any, refused: ExpectError, name: str
) -> None:
    deploy.endpoint(name, SLOW_IMAGE)
    in_progress = f'Cannot update in-progress endpoint "{ARN}{name}".'
    assert refused("delete_endpoint", EndpointName=name) == in_progress
    update = {"EndpointName": name, "EndpointConfigName": name}
    assert refused("update_endpoint", **update) == in_progress
    changes = [{"VariantName": "one", "DesiredInstanceCount": 3}]
    assert in_progress == refused(
        "update_endpoint_weights_and_capacities",
        EndpointName=name,
        DesiredWeightsAndCapacities=changes,
    )
    assert sagemaker.describe_endpoint(EndpointName=name)["EndpointStatus"] == "Creating"
    creating = sagemaker.list_endpoints(StatusEquals="Creating", NameContains=name)["Endpoints"]
    assert [endpoint["EndpointName"] for endpoint in creating] == [name]


def test_duplicate_and_missing_names(deploy: Deployment, refused: ExpectError, name: str) -> None:
    deploy.endpoint(name)
    again = refused("create_endpoint", EndpointName=name, EndpointConfigName=name)
    assert again == f'Cannot create already existing endpoint "{ARN}{name}".'
    missing = f'Could not find endpoint "{ARN}{name}-x".'
    for operation in ("describe_endpoint", "delete_endpoint"):
        assert refused(operation, EndpointName=f"{name}-x") == missing
    update = {"EndpointName": f"{name}-x", "EndpointConfigName": name}
    assert refused("update_endpoint", **update) == missing
    arn = f"arn:aws:sagemaker:us-east-1:123456789012:endpoint-config/{name}-x"
    create = {"EndpointName": f"{name}-y", "EndpointConfigName": f"{name}-x"}
    assert refused("create_endpoint", **create) == f'Could not find endpoint configuration "{arn}".'


def test_a_config_in_use_can_be_deleted(deploy: Deployment, sagemaker: Any, name: str) -> None:
    deploy.endpoint(name)
    sagemaker.delete_endpoint_config(EndpointConfigName=name)
    sagemaker.delete_model(ModelName=name)
    assert sagemaker.describe_endpoint(EndpointName=name)["EndpointStatus"] == "InService"


def test_an_update_switches_to_the_new_config(
    deploy: Deployment, sagemaker: Any, name: str
) -> None:
    deploy.endpoint(name)
    sagemaker.get_waiter("endpoint_in_service").wait(EndpointName=name)
    deploy.model(f"{name}-b", "new:latest")
    deploy.config(f"{name}-b", {"InitialInstanceCount": 3})
    config = {"EndpointName": name, "EndpointConfigName": f"{name}-b"}
    assert sagemaker.update_endpoint(**config)["EndpointArn"] == ARN + name
    sagemaker.get_waiter("endpoint_in_service").wait(EndpointName=name)
    described = sagemaker.describe_endpoint(EndpointName=name)
    assert described["EndpointConfigName"] == f"{name}-b"
    (shown,) = described["ProductionVariants"]
    assert shown["DesiredInstanceCount"] == 3
    assert shown["DeployedImages"][0]["SpecifiedImage"] == "new:latest"


def test_the_same_config_is_no_update(
    deploy: Deployment, sagemaker: Any, refused: ExpectError, name: str
) -> None:
    deploy.endpoint(name)
    sagemaker.get_waiter("endpoint_in_service").wait(EndpointName=name)
    config = f"arn:aws:sagemaker:us-east-1:123456789012:endpoint-config/{name}"
    assert refused("update_endpoint", EndpointName=name, EndpointConfigName=name) == (
        f'Endpoint "{ARN}{name}" already uses endpoint configuration "{config}": '
        "create a new one to update it."
    )


def test_a_failed_update_rolls_back(deploy: Deployment, sagemaker: Any, name: str) -> None:
    deploy.endpoint(name)
    sagemaker.get_waiter("endpoint_in_service").wait(EndpointName=name)
    deploy.model(f"{name}-b", BROKEN_IMAGE)
    deploy.config(f"{name}-b")
    sagemaker.update_endpoint(EndpointName=name, EndpointConfigName=f"{name}-b")
    described = sagemaker.describe_endpoint(EndpointName=name)
    assert described["EndpointStatus"] == "InService"
    assert described["FailureReason"] == (
        "The primary container did not pass the ping health check."
    )
    assert described["EndpointConfigName"] == name


def test_weights_and_capacities(
    deploy: Deployment, sagemaker: Any, refused: ExpectError, name: str
) -> None:
    deploy.model(name)
    deploy.config(name, {}, {"VariantName": "two", "InitialVariantWeight": 9})
    sagemaker.create_endpoint(EndpointName=name, EndpointConfigName=name)
    sagemaker.get_waiter("endpoint_in_service").wait(EndpointName=name)

    def change(*changes: dict[str, Any]) -> dict[str, Any]:
        sagemaker.update_endpoint_weights_and_capacities(
            EndpointName=name, DesiredWeightsAndCapacities=list(changes)
        )
        described: dict[str, Any] = sagemaker.describe_endpoint(EndpointName=name)
        return described

    described = change(
        {"VariantName": "one", "DesiredWeight": 0.5},
        {"VariantName": "two", "DesiredInstanceCount": 5},
    )
    assert [v["DesiredWeight"] for v in described["ProductionVariants"]] == [0.5, 9]
    assert [v["DesiredInstanceCount"] for v in described["ProductionVariants"]] == [2, 5]
    described = change({"VariantName": "one", "DesiredInstanceCount": 101})
    assert described["EndpointStatus"] == "InService"
    assert described["FailureReason"] == "Insufficient capacity."
    message = refused(
        "update_endpoint_weights_and_capacities",
        EndpointName=name,
        DesiredWeightsAndCapacities=[{"VariantName": "three", "DesiredWeight": 1}],
    )
    assert message == f'Could not find variant "three" of endpoint "{ARN}{name}".'


def test_an_update_can_retain_weights_and_counts(
    deploy: Deployment, sagemaker: Any, name: str
) -> None:
    deploy.endpoint(name)
    sagemaker.get_waiter("endpoint_in_service").wait(EndpointName=name)
    sagemaker.update_endpoint_weights_and_capacities(
        EndpointName=name,
        DesiredWeightsAndCapacities=[
            {"VariantName": "one", "DesiredWeight": 7, "DesiredInstanceCount": 4}
        ],
    )
    sagemaker.get_waiter("endpoint_in_service").wait(EndpointName=name)
    deploy.config(f"{name}-b", {"ModelName": name})
    sagemaker.update_endpoint(
        EndpointName=name,
        EndpointConfigName=f"{name}-b",
        RetainAllVariantProperties=True,
        ExcludeRetainedVariantProperties=[{"VariantPropertyType": "DesiredWeight"}],
    )
    (shown,) = sagemaker.describe_endpoint(EndpointName=name)["ProductionVariants"]
    assert (shown["DesiredWeight"], shown["DesiredInstanceCount"]) == (1.0, 4)


def test_deployment_guardrails_are_refused(
    deploy: Deployment, sagemaker: Any, refused: ExpectError, name: str
) -> None:
    deploy.model(name)
    deploy.config(name)
    names = {"EndpointName": name, "EndpointConfigName": name}
    at_once = {
        "BlueGreenUpdatePolicy": {
            "TrafficRoutingConfiguration": {"Type": "ALL_AT_ONCE", "WaitIntervalInSeconds": 0}
        }
    }
    canary = {
        "BlueGreenUpdatePolicy": {
            "TrafficRoutingConfiguration": {
                "Type": "CANARY",
                "WaitIntervalInSeconds": 60,
                "CanarySize": {"Type": "INSTANCE_COUNT", "Value": 1},
            }
        }
    }
    message = refused("create_endpoint", **names, DeploymentConfig=canary)
    assert message.startswith("Deployment guardrails are not available")
    sagemaker.create_endpoint(**names, DeploymentConfig=at_once)
    described = sagemaker.describe_endpoint(EndpointName=name)
    assert described["LastDeploymentConfig"] == at_once
