"""CloudFormation calls get a clear error instead of a stack without containers."""

import pytest
from botocore.exceptions import ClientError

from emulator.platform import LocalSageMaker


@pytest.mark.parametrize(
    ("operation", "members"),
    [
        ("create_stack", {"StackName": "many-models", "TemplateBody": "{}"}),
        ("describe_stacks", {}),
    ],
)
def test_every_call_is_refused(
    aws: LocalSageMaker, operation: str, members: dict[str, str]
) -> None:
    client = aws.client("cloudformation")
    with pytest.raises(ClientError, match="not available on the local platform") as caught:
        getattr(client, operation)(**members)
    assert caught.value.response["Error"]["Code"] == "InvalidAction"
