"""The tags of all resources, by ARN. Every existing resource has an entry, which may be empty."""

from collections.abc import Iterable, Mapping

from emulator.account import Caller
from emulator.control.errors import ApiError
from emulator.control.validation import Members

_MOST_TAGS = 50


class TagStore:
    def __init__(self) -> None:
        self._by_arn: dict[str, dict[str, str]] = {}

    def attach(self, arn: str, tags: Iterable[Mapping[str, str]]) -> None:
        """Sets the tags of a new resource."""
        self._by_arn[arn] = {tag["Key"]: tag["Value"] for tag in tags}

    def drop(self, arn: str) -> None:
        self._by_arn.pop(arn, None)

    async def add(self, _: Caller, members: Members) -> Members:
        check_duplicate_keys(members["Tags"])
        tags = self._tags(members["ResourceArn"])
        added = {tag["Key"]: tag["Value"] for tag in members["Tags"]}
        if len(tags | added) > _MOST_TAGS:
            raise ApiError(f"A resource can have at most {_MOST_TAGS} tags.")
        tags.update(added)
        return {"Tags": _tag_list(tags)}

    async def listing(self, _: Caller, members: Members) -> Members:
        """Returns all tags: a resource never has more than one page of ListTags."""
        return {"Tags": _tag_list(self._tags(members["ResourceArn"]))}

    async def delete(self, _: Caller, members: Members) -> Members:
        tags = self._tags(members["ResourceArn"])
        for key in members["TagKeys"]:
            tags.pop(key, None)
        return {}

    def _tags(self, arn: str) -> dict[str, str]:
        try:
            return self._by_arn[arn]
        except KeyError:
            raise ApiError(f'Could not find resource "{arn}".') from None


def check_duplicate_keys(tags: Iterable[Mapping[str, str]]) -> None:
    keys = [tag["Key"].lower() for tag in tags]
    if len(set(keys)) < len(keys):
        raise ApiError("Duplicate tag keys found. Please note that Tag keys are case insensitive.")


def _tag_list(tags: Mapping[str, str]) -> list[dict[str, str]]:
    return [{"Key": key, "Value": value} for key, value in tags.items()]
