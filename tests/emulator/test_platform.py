"""The whole platform: its environment, the services of moto, and its shutdown."""

import os
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager

import pytest

from emulator.interfaces import Hosting
from emulator.platform import LocalSageMaker
from tests.emulator.fake_hosting import FakeHosting, fake_hosting


def test_a_program_needs_only_the_environment(aws: LocalSageMaker) -> None:
    program = (
        "import boto3\n"
        "print(boto3.client('sagemaker').list_models(NameContains='missing')['Models'])\n"
        "print(boto3.client('sts').get_caller_identity()['Account'])\n"
        "runtime = boto3.client('sagemaker-runtime')\n"
        "try:\n"
        "    runtime.invoke_endpoint(EndpointName='missing', Body=b'')\n"
        "except runtime.exceptions.ValidationError as error:\n"
        "    print(error.response['Error']['Message'])\n"
    )
    bare = {"PATH": os.environ["PATH"], "HOME": "/nonexistent"}
    shown = subprocess.run(
        [sys.executable, "-c", program],
        env=bare | aws.environment,
        capture_output=True,
        text=True,
        check=True,
    )
    assert shown.stdout.splitlines() == [
        "[]",
        "123456789012",
        "Endpoint missing of account 123456789012 not found.",
    ]


@pytest.mark.parametrize(
    ("environ", "added"),
    [
        ({}, {"AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_DEFAULT_REGION"}),
        ({"AWS_PROFILE": "work"}, {"AWS_DEFAULT_REGION"}),
        ({"AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "b"}, {"AWS_DEFAULT_REGION"}),
        ({"AWS_PROFILE": "work", "AWS_DEFAULT_REGION": "eu-west-1"}, set()),
    ],
)
def test_credentials_and_region_are_added_only_where_missing(
    environ: dict[str, str], added: set[str]
) -> None:
    environment = LocalSageMaker(fake_hosting, environ=environ).environment
    services = ("_CLOUDFORMATION", "_SAGEMAKER", "_SAGEMAKER_RUNTIME")
    urls = {f"AWS_ENDPOINT_URL{name}" for name in ("", *services)}
    assert environment.keys() == urls | added


def test_other_aws_services(aws: LocalSageMaker) -> None:
    s3 = aws.client("s3")
    s3.create_bucket(Bucket="rest-of-aws")
    s3.put_object(Bucket="rest-of-aws", Key="a/b", Body=b"bytes")
    assert s3.get_object(Bucket="rest-of-aws", Key="a/b")["Body"].read() == b"bytes"
    aws.client("cloudwatch").put_metric_data(
        Namespace="AWS/SageMaker", MetricData=[{"MetricName": "Invocations", "Value": 1.0}]
    )
    aws.client("iam").list_roles()
    aws.client("ecr").describe_repositories()
    aws.client("application-autoscaling").register_scalable_target(
        ServiceNamespace="sagemaker",
        ResourceId="endpoint/e/variant/v",
        ScalableDimension="sagemaker:variant:DesiredInstanceCount",
        MinCapacity=1,
        MaxCapacity=2,
    )


def test_the_hosting_side_gets_the_address_of_moto_and_is_closed() -> None:
    events = []

    @asynccontextmanager
    async def hosting(aws_url: str) -> AsyncIterator[Hosting]:
        events.append(aws_url)
        try:
            yield FakeHosting()
        finally:
            events.append("closed")

    with LocalSageMaker(hosting, environ={}) as platform:
        assert events == [platform.environment["AWS_ENDPOINT_URL"]]
    assert events[1:] == ["closed"]
    assert_stopped(platform)


def test_a_failed_start_of_the_hosting_side_is_raised() -> None:
    def hosting(_: str) -> AbstractAsyncContextManager[Hosting]:
        raise LookupError("no docker here")

    platform = LocalSageMaker(hosting, environ={})
    with pytest.raises(LookupError, match="no docker here"), platform:
        pass
    assert_stopped(platform)


def test_a_taken_port_is_refused(aws: LocalSageMaker) -> None:
    port = int(aws.url.rpartition(":")[2])
    with pytest.raises(OSError), LocalSageMaker(fake_hosting, port=port, environ={}):
        pass


def assert_stopped(platform: LocalSageMaker) -> None:
    for url in (platform.url, platform.environment["AWS_ENDPOINT_URL"]):
        with pytest.raises(urllib.error.URLError):
            urllib.request.urlopen(url, timeout=1)
