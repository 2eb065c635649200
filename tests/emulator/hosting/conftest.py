"""One moto for all tests; every test has keys and a root of its own."""

from collections.abc import Iterator

import pytest

from emulator.aws import Aws
from tests.emulator.hosting.endpoints import BUCKET, client, upload


@pytest.fixture(scope="package")
def s3() -> Iterator[str]:
    with Aws() as aws:
        client(aws.url).create_bucket(Bucket=BUCKET)
        for number in range(20):
            upload(aws.url, f"{number}.tar.gz")
        upload(aws.url, "sub/0.tar.gz")
        upload(aws.url, "ModelA")
        yield aws.url
