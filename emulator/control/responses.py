"""Serialization of results according to the output shapes of the service model.

Absent members and empty structures are left out: some clients fail on an empty structure.
"""

from typing import Any

from botocore.model import Shape


def serialize(shape: Shape, value: Any) -> Any:
    """`value` as JSON. Unknown or missing members are bugs of the platform and fail an assertion."""
    match shape.type_name:
        case "structure":
            return _structure(shape, value)
        case "list":
            return [serialize(shape.member, item) for item in value]
        case "map":
            return {key: serialize(shape.value, item) for key, item in value.items()}
        case _:
            expected = _SCALARS[shape.type_name]
            assert isinstance(value, expected), f"{shape.name}: {value!r} is no {shape.type_name}"
            assert shape.type_name != "string" or not shape.enum or value in shape.enum, value
            return value


def _structure(shape: Shape, value: dict[str, Any]) -> dict[str, Any]:
    unknown = value.keys() - shape.members.keys()
    assert not unknown, f"{shape.name} has no {sorted(unknown)}"
    members = {
        name: serialize(shape.members[name], item)
        for name, item in value.items()
        if item is not None and item != {}
    }
    missing = set(shape.required_members) - members.keys()
    assert not missing, f"{shape.name} lacks {sorted(missing)}"
    return {name: item for name, item in members.items() if item != {}}


_SCALARS: dict[str, type | tuple[type, ...]] = {
    "string": str,
    "integer": int,
    "long": int,
    "float": (int, float),
    "double": (int, float),
    "boolean": bool,
    "timestamp": (int, float),
}
