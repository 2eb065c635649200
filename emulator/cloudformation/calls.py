"""The calls that a user would make: boto3 against the platform's own addresses, in a thread each."""

import asyncio
from collections.abc import Mapping
from typing import Any

import boto3
from botocore import xform_name
from botocore.config import Config
from botocore.exceptions import ClientError

_GONE = ("NoSuchEntity", "ObjectNotFoundException")
_NOT_FOUND = "Could not find"


class Calls:
    """`urls`: where some services answer; the others do at `rest`."""

    def __init__(self, urls: Mapping[str, str], rest: str, region: str) -> None:
        self._urls = urls
        self._rest = rest
        self._session = boto3.Session("local", "local", region_name=region)
        self._clients: dict[str, Any] = {}
        self.region = region

    async def __call__(self, service: str, operation: str, **members: Any) -> dict[str, Any]:
        """Raises botocore's errors."""
        call = getattr(self._client(service), xform_name(operation))
        answer: dict[str, Any] = await asyncio.to_thread(call, **members)
        return answer

    def operation(self, service: str, name: str) -> Any:
        """Its model."""
        return self._client(service).meta.service_model.operation_model(name)

    def _client(self, service: str) -> Any:
        if service not in self._clients:
            self._clients[service] = self._session.client(
                service,
                endpoint_url=self._urls.get(service, self._rest),
                config=Config(retries={"total_max_attempts": 1}),
            )
        return self._clients[service]


def says_gone(error: ClientError) -> bool:
    """Whether the refusal is that there is nothing of the name."""
    told = error.response["Error"]
    return told["Code"] in _GONE or _NOT_FOUND in told.get("Message", "")
