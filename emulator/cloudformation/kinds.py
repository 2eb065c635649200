"""Resource types: how each is made, brought to what was asked for, and deleted again.

AWS's own schemas of them come with cfn-lint: which properties there are, and which only a new resource can
have otherwise.
"""

from collections.abc import Mapping
from functools import cache
from typing import Any, Protocol

from botocore.exceptions import ClientError
from botocore.model import Shape
from cfnlint.schema import PROVIDER_SCHEMA_MANAGER

from emulator.account import DEFAULT_REGION
from emulator.cloudformation.calls import Calls, says_gone
from emulator.cloudformation.functions import Identity, text
from emulator.cloudformation.refusals import invalid

Properties = Mapping[str, Any]


class Kind(Protocol):
    """`settle` may be called again, and with other properties: that is how a resource is updated."""

    @property
    def type(self) -> str: ...

    async def create(self, calls: Calls, name: str, properties: Properties) -> Identity:
        """`name`: for where the properties give none."""
        ...

    async def settle(self, calls: Calls, made: Identity, properties: Properties) -> None:
        """Return when it is what the properties say."""
        ...

    async def delete(self, calls: Calls, made: Identity) -> None:
        """Return when it is gone. What is gone already may raise."""
        ...


async def delete(kind: Kind, calls: Calls, made: Identity) -> None:
    """Gone afterwards, also where someone else has deleted it."""
    try:
        await kind.delete(calls, made)
    except ClientError as error:
        if not says_gone(error):
            raise


def replaces(kind: str, before: Properties, after: Properties) -> bool:
    """Whether the change needs a new resource. Raises Refused where this platform cannot make it."""
    changed = {name for name in before.keys() | after.keys() if before.get(name) != after.get(name)}
    if changed & _fixed(kind):
        return True
    if "Tags" in changed:
        raise invalid(f"Changed Tags of {kind} are not available here.")
    return False


def check(kind: str, properties: Properties) -> None:
    schema = _schema(kind)
    read_only = _names(schema.get("readOnlyProperties", []))
    for name in properties:
        if name not in schema["properties"] or name in read_only:
            raise invalid(f"Encountered unsupported property {name}")
    for name in schema.get("required", []):
        if name not in properties:
            raise invalid(f"Property {name} cannot be empty.")


def coerced(shape: Shape, value: Any, path: str = "") -> Any:
    """With numbers and booleans where the service wants them and the template has texts."""
    match shape.type_name:
        case "structure" if isinstance(value, dict):
            return {name: _member(shape, name, item, path) for name, item in value.items()}
        case "list" if isinstance(value, list):
            return [coerced(shape.member, item, path) for item in value]
        case "map" if isinstance(value, dict):
            return {name: coerced(shape.value, item, path) for name, item in value.items()}
        case "structure" | "list" | "map":
            raise invalid(f"Value of property {path} must be a {shape.type_name}")
        case _:
            return _plain(shape.type_name, text(value), path)


def _member(shape: Shape, name: str, item: Any, path: str) -> Any:
    if name not in shape.members:
        raise invalid(f"Encountered unsupported property {name}")
    return coerced(shape.members[name], item, f"{path}/{name}")


def _plain(kind: str, value: str, path: str) -> Any:
    try:
        match kind:
            case "integer" | "long":
                return int(value)
            case "double" | "float":
                return float(value)
            case "boolean":
                return {"true": True, "false": False}[value.lower()]
            case _:
                return value
    except (ValueError, KeyError):
        raise invalid(f"Value of property {path} must be of type {kind}, not '{value}'") from None


@cache
def _schema(kind: str) -> dict[str, Any]:
    schema: dict[str, Any] = PROVIDER_SCHEMA_MANAGER.get_resource_schema(
        DEFAULT_REGION, kind
    ).schema
    return schema


def _fixed(kind: str) -> set[str]:
    return _names(_schema(kind).get("createOnlyProperties", []))


def _names(pointers: list[str]) -> set[str]:
    return {pointer.split("/")[2] for pointer in pointers}
