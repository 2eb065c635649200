"""The tags of every resource, by ARN. A resource that exists has a set of tags, if an empty one."""

from collections.abc import Iterable, Mapping
from typing import Any

from emulator.account import Caller
from emulator.control.errors import ApiError

Members = dict[str, Any]

_MOST = 50


class TagStore:
    def __init__(self) -> None:
        self._by_arn: dict[str, dict[str, str]] = {}

    def attach(self, arn: str, tags: Iterable[Mapping[str, str]]) -> None:
        """To a resource that is being created."""
        self._by_arn[arn] = {tag["Key"]: tag["Value"] for tag in tags}

    def drop(self, arn: str) -> None:
        self._by_arn.pop(arn, None)

    async def add(self, _: Caller, members: Members) -> Members:
        check_duplicate_keys(members["Tags"])
        tags = self._of(members["ResourceArn"])
        added = {tag["Key"]: tag["Value"] for tag in members["Tags"]}
        if len(tags | added) > _MOST:
            raise ApiError(f"A resource can have at most {_MOST} tags.")
        tags.update(added)
        return {"Tags": _listed(tags)}

    async def listing(self, _: Caller, members: Members) -> Members:
        """All of them: a page of ListTags holds no fewer than a resource can have."""
        return {"Tags": _listed(self._of(members["ResourceArn"]))}

    async def delete(self, _: Caller, members: Members) -> Members:
        tags = self._of(members["ResourceArn"])
        for key in members["TagKeys"]:
            tags.pop(key, None)
        return {}

    def _of(self, arn: str) -> dict[str, str]:
        try:
            return self._by_arn[arn]
        except KeyError:
            raise ApiError(f'Could not find resource "{arn}".') from None


def check_duplicate_keys(tags: Iterable[Mapping[str, str]]) -> None:
    keys = [tag["Key"].lower() for tag in tags]
    if len(set(keys)) < len(keys):
        raise ApiError("Duplicate tag keys found. Please note that Tag keys are case insensitive.")


def _listed(tags: Mapping[str, str]) -> list[dict[str, str]]:
    return [{"Key": key, "Value": value} for key, value in tags.items()]
