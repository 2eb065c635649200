"""The named records of one kind: models, endpoint configurations or endpoints.

A name is there at most once; what is missing or there already is refused with AWS's texts.
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


class ResourceStore(Generic[R]):
    """`kind` is the word in the ARN, `noun` the words in a message."""

    def __init__(self, kind: str, noun: str) -> None:
        self._kind = kind
        self._noun = noun
        self._records: dict[str, R] = {}

    def check_unused(self, name: str) -> None:
        if name in self._records:
            arn = self._records[name].arn
            raise ApiError(f'Cannot create already existing {self._noun} "{arn}".')

    def add(self, record: R) -> None:
        self.check_unused(record.name)
        self._records[record.name] = record

    def find(self, caller: Caller, name: str) -> R:
        try:
            return self._records[name]
        except KeyError:
            arn = caller.arn(self._kind, name)
            raise ApiError(f'Could not find {self._noun} "{arn}".') from None

    def get(self, name: str) -> R | None:
        return self._records.get(name)

    def remove(self, caller: Caller, name: str) -> R:
        record = self.find(caller, name)
        del self._records[name]
        return record

    def page(
        self,
        members: Mapping[str, Any],
        keep: Callable[[R], bool] = lambda _: True,
        sort_keys: Mapping[str, SortKey[R]] | None = None,
    ) -> tuple[list[R], str | None]:
        """The records a List call asks for, newest first by default, and the token of the rest."""
        keys: dict[str, SortKey[R]] = {
            "Name": lambda record: record.name,
            "CreationTime": lambda record: record.created,
            **(sort_keys or {}),
        }
        key = keys[members.get("SortBy", "CreationTime")]
        backwards = members.get("SortOrder", "Descending") == "Descending"

        def place(record: R) -> tuple[str | float, str]:
            return key(record), record.name

        chosen = [r for r in self._records.values() if _asked_for(r, members) and keep(r)]
        chosen.sort(key=place, reverse=backwards)
        if "NextToken" in members:
            last = _opened(members["NextToken"])
            chosen = [r for r in chosen if _beyond(place(r), last, backwards)]
        count = members.get("MaxResults", DEFAULT_PAGE)
        token = _sealed(place(chosen[count - 1])) if len(chosen) > count else None
        return chosen[:count], token


def within(moment: float, members: Mapping[str, Any], word: str) -> bool:
    """Whether the moment lies between `<word>After` and `<word>Before`, where these are given."""
    after = members.get(f"{word}After", float("-inf"))
    before = members.get(f"{word}Before", float("inf"))
    return bool(after <= moment <= before)


def _asked_for(record: Resource, members: Mapping[str, Any]) -> bool:
    named = members.get("NameContains", "").lower() in record.name.lower()
    return named and within(record.created, members, "CreationTime")


def _beyond(place: tuple[str | float, str], last: tuple[str | float, str], backwards: bool) -> bool:
    """Past the last record of the page before, even where records came or went since."""
    try:
        return place < last if backwards else place > last
    except TypeError:  # the token is from a listing with another SortBy
        raise _unknown_token() from None


def _sealed(place: tuple[str | float, str]) -> str:
    return base64.urlsafe_b64encode(json.dumps(place).encode()).decode()


def _opened(token: str) -> tuple[str | float, str]:
    try:
        key, name = json.loads(base64.urlsafe_b64decode(token))
    except (binascii.Error, ValueError, TypeError):
        raise _unknown_token() from None
    return key, name


def _unknown_token() -> ApiError:
    return ApiError("Invalid NextToken: it does not belong to this listing.")
