"""Stacks come, change and go, and leave nothing behind where that fails."""

from typing import Any

import pytest
from botocore.exceptions import ClientError

from emulator.platform import LocalSageMaker
from tests.emulator.cloudformation.conftest import TEMPLATE, Named
from tests.emulator.control.fleets import BROKEN_IMAGE, BUGGY_IMAGE, SLOW_IMAGE, fake_hosting


def test_a_stack_is_created_described_and_deleted(stack: Named) -> None:
    stack.create(Count="2")
    assert stack.described["StackStatus"] == "CREATE_COMPLETE"
    assert {"ParameterKey": "Count", "ParameterValue": "2"} in stack.described["Parameters"]
    assert stack.outputs == {"Name": stack.name}
    assert set(stack.resources) == {"Model", "Config", "Endpoint"}
    assert stack.endpoint()["ProductionVariants"][0]["CurrentInstanceCount"] == 2
    number = stack.described["StackId"]
    stack.delete()
    assert stack.hosted() == []
    (left,) = stack.client.describe_stacks(StackName=number)["Stacks"]
    assert left["StackStatus"] == "DELETE_COMPLETE"


def test_an_update_replaces_what_cannot_be_changed_in_place(stack: Named) -> None:
    stack.create()
    before = stack.resources
    stack.update(Count="3", Image="many-models:2")
    after = stack.resources
    assert before["Endpoint"] == after["Endpoint"]
    assert before["Model"] != after["Model"]
    assert len(stack.hosted()) == 3
    (variant,) = stack.endpoint()["ProductionVariants"]
    assert variant["CurrentInstanceCount"] == 3
    assert variant["DeployedImages"][0]["SpecifiedImage"] == "many-models:2"
    stack.delete()


def test_conditions_add_and_remove_resources(stack: Named, aws: LocalSageMaker) -> None:
    scaling = aws.client("application-autoscaling")

    def bounds() -> list[tuple[int, int]]:
        ids = [f"endpoint/{stack.name}/variant/AllTraffic"]
        targets = scaling.describe_scalable_targets(ServiceNamespace="sagemaker", ResourceIds=ids)
        return [(t["MinCapacity"], t["MaxCapacity"]) for t in targets["ScalableTargets"]]

    stack.create()
    assert bounds() == []
    stack.update(Scaled="yes", Count="2")
    assert bounds() == [(1, 2)]
    assert "Target" in stack.outputs
    stack.update(Scaled="yes", Count="4")
    assert bounds() == [(1, 4)]
    stack.update(Count="4")
    assert bounds() == []
    stack.delete()


def test_the_same_again_is_refused(stack: Named) -> None:
    stack.create()
    assert stack.refused("update") == "No updates are to be performed."
    said = stack.refused("start", code="AlreadyExistsException")
    assert said == f"Stack [{stack.name}] already exists"
    stack.delete()


@pytest.mark.parametrize(
    ("image", "reason"),
    [
        (BROKEN_IMAGE, "The primary container did not pass the ping health check."),
        (BUGGY_IMAGE, "internal error of the local platform"),
    ],
)
def test_a_failed_creation_leaves_nothing(image: str, reason: str, stack: Named) -> None:
    assert stack.fails("create", Image=image) == "ROLLBACK_COMPLETE"
    assert reason in next(e for e in stack.events("Endpoint") if e.startswith("CREATE_FAILED"))
    assert "failed to create: [Endpoint]" in "".join(stack.events(stack.name))
    assert stack.hosted() == []
    assert stack.resources == {}
    assert "ROLLBACK_COMPLETE state and can not be updated" in stack.refused("update", Count="2")
    stack.delete()


def test_a_failed_creation_is_kept_on_request(stack: Named) -> None:
    stack.start(Image=BROKEN_IMAGE, options={"OnFailure": "DO_NOTHING"})
    assert stack.fails("wait", "stack_create_complete") == "CREATE_FAILED"
    assert len(stack.hosted()) == 3
    stack.delete()
    assert stack.hosted() == []


def test_a_failed_update_goes_back(stack: Named) -> None:
    """Of its new model and configuration nothing is left, and the endpoint serves as before."""
    stack.create()
    before, hosted = stack.resources, sorted(stack.hosted())
    assert stack.fails("update", Image=BROKEN_IMAGE) == "UPDATE_ROLLBACK_COMPLETE"
    assert "ping health check" in "".join(stack.events("Endpoint"))
    assert (stack.resources, sorted(stack.hosted())) == (before, hosted)
    assert stack.endpoint()["EndpointStatus"] == "InService"
    stack.update(Image="many-models:2")
    stack.delete()


def test_an_update_that_fails_late_undoes_what_had_succeeded(stack: Named) -> None:
    """The endpoint had moved when the target was refused: it moves back."""
    stack.create()
    config = stack.endpoint()["EndpointConfigName"]
    broken = TEMPLATE.replace("MinCapacity: 1", "Colour: red")
    assert stack.fails("update", broken, Scaled="yes", Count="2") == "UPDATE_ROLLBACK_COMPLETE"
    assert any(event.startswith("CREATE_FAILED") for event in stack.events("Target"))
    assert stack.endpoint()["EndpointConfigName"] == config
    assert len(stack.hosted()) == 3
    stack.delete()


def test_an_output_that_cannot_be_told_fails_the_stack(stack: Named) -> None:
    broken = TEMPLATE.replace("!GetAtt Endpoint.EndpointName, D", "!GetAtt Endpoint.Colour, D")
    assert stack.fails("create", broken) == "ROLLBACK_COMPLETE"
    assert "does not support attribute Colour" in "".join(stack.events(stack.name))
    assert stack.hosted() == []


def test_what_someone_else_has_deleted_does_not_stop_a_deletion(
    stack: Named, sagemaker: Any
) -> None:
    stack.create()
    sagemaker.delete_endpoint(EndpointName=stack.name)
    sagemaker.get_waiter("endpoint_deleted").wait(EndpointName=stack.name)
    stack.delete()
    assert stack.hosted() == []


def test_what_is_retained_stays(stack: Named, sagemaker: Any) -> None:
    kept = TEMPLATE.replace(
        "Type: AWS::SageMaker::Model", "Type: AWS::SageMaker::Model\n    DeletionPolicy: Retain"
    )
    stack.create(kept)
    stack.delete()
    (model,) = stack.hosted()
    sagemaker.delete_model(ModelName=model)


def test_a_resource_with_a_fixed_name_cannot_be_replaced(stack: Named) -> None:
    named = TEMPLATE.replace(
        "    Properties:\n      ExecutionRoleArn",
        "    Properties:\n      ModelName: !Sub ${AWS::StackName}-fixed\n      ExecutionRoleArn",
    )
    stack.create(named)
    assert stack.fails("update", Image="many-models:2") == "UPDATE_ROLLBACK_COMPLETE"
    assert "Rename" in "".join(stack.events("Model"))
    stack.delete()


def test_no_such_stack(client: Any) -> None:
    with pytest.raises(ClientError, match="Stack with id nothing does not exist"):
        client.describe_stacks(StackName="nothing")
    client.delete_stack(StackName="nothing")


def test_lists(stack: Named) -> None:
    stack.create()
    (mine,) = [
        s for s in stack.client.list_stacks()["StackSummaries"] if s["StackName"] == stack.name
    ]
    assert mine["StackStatus"] == "CREATE_COMPLETE"
    everything = stack.client.describe_stacks()["Stacks"]
    assert stack.name in [s["StackName"] for s in everything]
    listed = stack.client.list_stack_resources(StackName=stack.name)["StackResourceSummaries"]
    assert {r["LogicalResourceId"] for r in listed} == set(stack.resources)
    assert stack.client.get_template(StackName=stack.name)["TemplateBody"] == TEMPLATE
    stack.delete()


def test_the_platform_stops_while_a_stack_is_on_its_way() -> None:
    with LocalSageMaker(fake_hosting, patience_s=1, environ={}) as platform:
        stack = Named(platform, "slow", platform.client("cloudformation"), None)
        stack.start(Image=SLOW_IMAGE)
        assert stack.described["StackStatus"] == "CREATE_IN_PROGRESS"
        assert "cannot be deleted while in status" in stack.refused("delete")
