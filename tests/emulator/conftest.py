"""One local platform, or one moto server, for each test module.

moto has one state per process: a module uses either `aws` or `s3`.
"""

from collections.abc import Iterator
from itertools import count
from typing import Any

import pytest
from botocore.exceptions import ClientError

from emulator.aws import moto_server
from emulator.platform import LocalSageMaker
from tests.emulator.deployments import Deployment, ExpectError
from tests.emulator.fake_hosting import fake_hosting
from tests.emulator.hosting_bed import BUCKET, client, upload

_numbers = count()


@pytest.fixture(scope="module")
def aws() -> Iterator[LocalSageMaker]:
    with LocalSageMaker(fake_hosting, describe_wait_s=2, environ={}) as platform:
        yield platform


@pytest.fixture(scope="module")
def sagemaker(aws: LocalSageMaker) -> Any:
    return aws.client("sagemaker")


@pytest.fixture(scope="module")
def runtime(aws: LocalSageMaker) -> Any:
    return aws.client("sagemaker-runtime")


@pytest.fixture
def name() -> str:
    """A name that no other test uses."""
    return f"n{next(_numbers)}"


@pytest.fixture
def deploy(sagemaker: Any) -> Deployment:
    return Deployment(sagemaker)


@pytest.fixture
def refused(sagemaker: Any) -> ExpectError:
    """Makes a call that must fail with a ValidationException; returns the error message."""

    def call(operation: str, code: str = "ValidationException", **members: Any) -> str:
        with pytest.raises(ClientError) as caught:
            getattr(sagemaker, operation)(**members)
        error = caught.value.response["Error"]
        assert error["Code"] == code, error
        message: str = error["Message"]
        return message

    return call


@pytest.fixture(scope="module")
def s3() -> Iterator[str]:
    with moto_server() as url:
        client(url).create_bucket(Bucket=BUCKET)
        for number in range(20):
            upload(url, f"{number}.tar.gz")
        upload(url, "sub/0.tar.gz")
        upload(url, "ModelA")
        yield url
