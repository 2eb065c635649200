"""The CloudFormation template as a stack on the local platform, with real containers behind its endpoint."""

import os
import shlex
from pathlib import Path

from emulator.hosts import create_hosting
from emulator.platform import LocalSageMaker
from tests import artifacts
from tests.scripts.stacks import IMAGE, NAME, ROLE, Account


def test_from_creation_to_deletion(tmp_path: Path) -> None:
    """It serves, moves to another image and more instances, and goes, and leaves only the archive."""
    archive = artifacts.packed(artifacts.bert_classifier(tmp_path / "sentiment"))
    environ = {k: v for k, v in os.environ.items() if not k.startswith("AWS_")}
    with LocalSageMaker(lambda url: create_hosting(s3=url), environ=environ) as platform:
        s3 = platform.client("s3")
        s3.create_bucket(Bucket="my-bucket")
        s3.put_object(Bucket="my-bucket", Key="models/sentiment.tar.gz", Body=archive)
        live(Account(platform, platform.client("cloudformation")))


def live(account: Account) -> None:
    account.create(Autoscaling="Disabled", ExecutionRoleArn=ROLE)
    assert account.outputs()["EndpointName"] == NAME
    command = shlex.split(account.outputs()["InvokeCommand"])
    assert command[command.index("--endpoint-name") + 1] == NAME
    assert "score" in account.invoke(command[command.index("--target-model") + 1])[0]
    assert account.variant()["CurrentInstanceCount"] == 1
    newer = f"{IMAGE}-2"
    account.update(Autoscaling="Disabled", ExecutionRoleArn=ROLE, Image=newer, InstanceCount="2")
    assert account.variant()["CurrentInstanceCount"] == 2
    assert account.variant()["DeployedImages"][0]["SpecifiedImage"] == newer
    assert account.invoke("sentiment.tar.gz")
    account.delete()
    assert account.left() == []
