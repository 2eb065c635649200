"""Every documented form of ModelDataUrl names the same object for a target model."""

import pytest

from emulator.containers.s3 import S3Location


@pytest.mark.parametrize(
    ("prefix", "target", "bucket", "key"),
    [
        ("s3://b/p/", "a.tar.gz", "b", "p/a.tar.gz"),
        ("s3://b/p", "/a.tar.gz", "b", "p/a.tar.gz"),
        ("s3://b", "a.tar.gz", "b", "a.tar.gz"),
        ("s3://b/", "s/a.tar.gz", "b", "s/a.tar.gz"),
        ("https://s3-eu-west-1.amazonaws.com/b/p/", "ModelA", "b", "p/ModelA"),
        ("https://s3.amazonaws.com/b/p", "ModelA", "b", "p/ModelA"),
        ("https://b.s3.eu-west-1.amazonaws.com/p/", "ModelA", "b", "p/ModelA"),
    ],
)
def test_forms_of_addresses(prefix: str, target: str, bucket: str, key: str) -> None:
    source = S3Location.parse(prefix).below(target)
    assert (source.bucket, source.key) == (bucket, key)


def test_other_addresses_are_refused() -> None:
    with pytest.raises(ValueError):
        S3Location.parse("ftp://b/p")
