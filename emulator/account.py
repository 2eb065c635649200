"""Whose calls these are: one account, and the region that the signature names."""

import re
from dataclasses import dataclass

ACCOUNT = "123456789012"
DEFAULT_REGION = "us-east-1"

_SCOPE = re.compile(r"Credential=[^/,\s]+/\d{8}/(?P<region>[a-z0-9-]+)/")


@dataclass(frozen=True, slots=True)
class Caller:
    region: str = DEFAULT_REGION

    @classmethod
    def signed(cls, authorization: str) -> "Caller":
        """From the credential scope of a SigV4 Authorization header."""
        scope = _SCOPE.search(authorization)
        return cls(scope["region"]) if scope else cls()

    def arn(self, kind: str, name: str) -> str:
        return f"arn:aws:sagemaker:{self.region}:{ACCOUNT}:{kind}/{name}"
