"""AddTags, ListTags, DeleteTags."""

from typing import Any

from tests.emulator.deployments import IMAGE, ROLE, Deployment, ExpectError


def shown(sagemaker: Any, arn: str) -> dict[str, str]:
    return {tag["Key"]: tag["Value"] for tag in sagemaker.list_tags(ResourceArn=arn)["Tags"]}


def test_tags_are_created_and_deleted_with_their_resource(
    sagemaker: Any, refused: ExpectError, name: str
) -> None:
    arn = sagemaker.create_model(
        ModelName=name,
        ExecutionRoleArn=ROLE,
        PrimaryContainer={"Image": IMAGE},
        Tags=[{"Key": "team", "Value": "search"}],
    )["ModelArn"]
    sagemaker.add_tags(ResourceArn=arn, Tags=[{"Key": "stage", "Value": ""}])
    assert shown(sagemaker, arn) == {"team": "search", "stage": ""}
    sagemaker.add_tags(ResourceArn=arn, Tags=[{"Key": "stage", "Value": "prod é"}])
    sagemaker.delete_tags(ResourceArn=arn, TagKeys=["team", "absent"])
    assert shown(sagemaker, arn) == {"stage": "prod é"}
    sagemaker.delete_model(ModelName=name)
    assert refused("list_tags", ResourceArn=arn) == f'Could not find resource "{arn}".'


def test_every_resource_type_has_tags(deploy: Deployment, sagemaker: Any, name: str) -> None:
    deploy.endpoint(name)
    for resource_type in ("model", "endpoint-config", "endpoint"):
        arn = f"arn:aws:sagemaker:us-east-1:123456789012:{resource_type}/{name}"
        assert shown(sagemaker, arn) == {}


def test_tag_keys_are_unique(deploy: Deployment, refused: ExpectError, name: str) -> None:
    arn = deploy.model(name)
    tags = [{"Key": key, "Value": ""} for key in ("team", "Team")]
    message = refused("add_tags", ResourceArn=arn, Tags=tags)
    assert message == "Duplicate tag keys found. Please note that Tag keys are case insensitive."


def test_a_resource_has_no_more_than_fifty(
    deploy: Deployment, sagemaker: Any, refused: ExpectError, name: str
) -> None:
    arn = deploy.model(name)
    tags = [{"Key": f"key{number}", "Value": ""} for number in range(50)]
    sagemaker.add_tags(ResourceArn=arn, Tags=tags)
    message = refused("add_tags", ResourceArn=arn, Tags=[{"Key": "more", "Value": ""}])
    assert message == "A resource can have at most 50 tags."
    assert len(shown(sagemaker, arn)) == 50
