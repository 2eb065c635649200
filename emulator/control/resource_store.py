"""Resources of one type by name, with the filters, order and pages of the List operations.

The types are models, endpoint configurations and endpoints.
"""

import base64
import binascii
import json
from collections.abc import Callable, Mapping
from typing import Any, Generic, Protocol, TypeVar

from emulator.account import Caller
from emulator.control.errors import ApiError

DEFAULT_PAGE = 10


class Resource(Protocol):
    @property
    def name(self) -> str: ...
    @property
    def arn(self) -> str: ...
    @property
    def created(self) -> float: ...


R = TypeVar("R", bound=Resource)
SortKey = Callable[[R], str | float]
# The sort key and the name of a resource: its place in a listing.
Position = tuple[str | float, str]


class ResourceStore(Generic[R]):
    """`arn_type` is the resource type in ARNs, `noun` its name in error messages."""

    def __init__(self, arn_type: str, noun: str) -> None:
        self._arn_type = arn_type
        self._noun = noun
        self._resources: dict[str, R] = {}

    def check_unused(self, name: str) -> None:
        """Raises ApiError if the name exists."""
        if name in self._resources:
            arn = self._resources[name].arn
            raise ApiError(f'Cannot create already existing {self._noun} "{arn}".')

    def add(self, resource: R) -> None:
        self.check_unused(resource.name)
        self._resources[resource.name] = resource

    def find(self, caller: Caller, name: str) -> R:
        """Raises ApiError if the name does not exist."""
        try:
            return self._resources[name]
        except KeyError:
            arn = caller.arn(self._arn_type, name)
            raise ApiError(f'Could not find {self._noun} "{arn}".') from None

    def get(self, name: str) -> R | None:
        return self._resources.get(name)

    def remove(self, caller: Caller, name: str) -> R:
        resource = self.find(caller, name)
        del self._resources[name]
        return resource

    def page(
        self,
        members: Mapping[str, Any],
        keep: Callable[[R], bool] = lambda _: True,
        sort_keys: Mapping[str, SortKey[R]] | None = None,
    ) -> tuple[list[R], str | None]:
        """One page of a List call (newest first by default) and the NextToken, None on the last page."""
        keys: dict[str, SortKey[R]] = {
            "Name": lambda resource: resource.name,
            "CreationTime": lambda resource: resource.created,
            **(sort_keys or {}),
        }
        key = keys[members.get("SortBy", "CreationTime")]
        descending = members.get("SortOrder", "Descending") == "Descending"

        def position(resource: R) -> Position:
            return key(resource), resource.name

        found = [r for r in self._resources.values() if _matches(r, members) and keep(r)]
        found.sort(key=position, reverse=descending)
        if "NextToken" in members:
            last = _decoded(members["NextToken"])
            found = [r for r in found if _is_after(position(r), last, descending)]
        count = members.get("MaxResults", DEFAULT_PAGE)
        token = _encoded(position(found[count - 1])) if len(found) > count else None
        return found[:count], token


def within(moment: float, members: Mapping[str, Any], prefix: str) -> bool:
    """Whether the moment lies between the members `<prefix>After` and `<prefix>Before`, if given."""
    after = members.get(f"{prefix}After", float("-inf"))
    before = members.get(f"{prefix}Before", float("inf"))
    return bool(after <= moment <= before)


def _matches(resource: Resource, members: Mapping[str, Any]) -> bool:
    name_matches = members.get("NameContains", "").lower() in resource.name.lower()
    return name_matches and within(resource.created, members, "CreationTime")


def _is_after(position: Position, last: Position, descending: bool) -> bool:
    """Compares positions instead of indexes, so that pages stay right when resources are added or deleted."""
    try:
        return position < last if descending else position > last
    except TypeError:  # the token comes from a listing with another SortBy
        raise _invalid_token() from None


def _encoded(position: Position) -> str:
    return base64.urlsafe_b64encode(json.dumps(position).encode()).decode()


def _decoded(token: str) -> Position:
    try:
        key, name = json.loads(base64.urlsafe_b64decode(token))
    except (binascii.Error, ValueError, TypeError):
        raise _invalid_token() from None
    return key, name


def _invalid_token() -> ApiError:
    return ApiError("Invalid NextToken: it does not belong to this listing.")
