"""The one AWS account of the platform, the region of a call, and boto3 clients for local endpoints."""

import re
from dataclasses import dataclass
from typing import Any

import boto3

ACCOUNT = "123456789012"
DEFAULT_REGION = "us-east-1"
# moto accepts any credentials; boto3 does not sign without some.
ACCESS_KEY = "local"

_SCOPE = re.compile(r"Credential=[^/,\s]+/\d{8}/(?P<region>[a-z0-9-]+)/")


@dataclass(frozen=True, slots=True)
class Caller:
    region: str = DEFAULT_REGION

    @classmethod
    def signed(cls, authorization: str) -> "Caller":
        """Reads the region from the credential scope of a SigV4 Authorization header."""
        scope = _SCOPE.search(authorization)
        return cls(scope["region"]) if scope else cls()

    def arn(self, resource_type: str, name: str) -> str:
        return f"arn:aws:sagemaker:{self.region}:{ACCOUNT}:{resource_type}/{name}"


def local_client(service: str, url: str, region: str = DEFAULT_REGION, **options: Any) -> Any:
    """A boto3 client for a service at a local address, with placeholder credentials."""
    return boto3.client(
        service,
        **{
            "endpoint_url": url,
            "region_name": region,
            "aws_access_key_id": ACCESS_KEY,
            "aws_secret_access_key": ACCESS_KEY,
            **options,
        },
    )
