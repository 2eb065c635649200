"""Validation of requests against the input shapes of the service model, with AWS's error messages.

Members that the service model does not have are dropped, as on AWS.
"""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cache
from typing import Any

from botocore.model import Shape

from emulator.control.errors import ApiError

Members = dict[str, Any]


@dataclass(slots=True)
class Violations:
    """The violations found in one request, in the order of its members."""

    found: list[str] = field(default_factory=list)

    def add(self, value: object, path: str, constraint: str) -> None:
        self.found.append(
            f"Value {_quoted(value)} at '{path}' failed to satisfy constraint: {constraint}"
        )

    def __str__(self) -> str:
        count = len(self.found)
        noun = "error" if count == 1 else "errors"
        return f"{count} validation {noun} detected: {'; '.join(self.found)}"


def validate(shape: Shape, value: object, code: str = "ValidationException") -> Members:
    """The members that the shape has. Raises one ApiError that lists every violation."""
    violations = Violations()
    members: Members = _structure(shape, value, "", violations)
    if violations.found:
        raise ApiError(str(violations), code)
    return members


def _visit(shape: Shape, value: object, path: str, violations: Violations) -> Any:
    return _VISITORS[shape.type_name](shape, value, path, violations)


def _structure(shape: Shape, value: object, path: str, violations: Violations) -> Any:
    if not isinstance(value, dict):
        raise _type_error(value, "structure")
    members = {}
    for name, member in shape.members.items():
        where = f"{path}.{_camel(name)}" if path else _camel(name)
        if value.get(name) is not None:
            members[name] = _visit(member, value[name], where, violations)
        elif name in shape.required_members:
            violations.add(None, where, "Member must not be null")
    return members


def _list(shape: Shape, value: object, path: str, violations: Violations) -> Any:
    if not isinstance(value, list):
        raise _type_error(value, "list")
    for constraint in _limit_violations(shape, len(value)):
        violations.add(value, path, constraint)
    return [
        _visit(shape.member, item, f"{path}.{number}.member", violations)
        for number, item in enumerate(value, 1)
    ]


def _map(shape: Shape, value: object, path: str, violations: Violations) -> Any:
    if not isinstance(value, dict):
        raise _type_error(value, "map")
    for constraint in _limit_violations(shape, len(value)):
        violations.add(value, path, constraint)
    if any(any(_string_violations(shape.key, key)) for key in value):
        violations.add(value, path, f"Map keys must satisfy constraint: {_rules(shape.key)}")
    if any(any(_string_violations(shape.value, _text(item))) for item in value.values()):
        violations.add(value, path, f"Map value must satisfy constraint: {_rules(shape.value)}")
    return dict(value)


def _string(shape: Shape, value: object, path: str, violations: Violations) -> Any:
    for constraint in _string_violations(shape, _text(value)):
        violations.add(value, path, constraint)
    return value


def _number(shape: Shape, value: object, path: str, violations: Violations) -> Any:
    number = _scalar(shape, value, path, violations)
    for constraint in _limit_violations(shape, number, "value"):
        violations.add(value, path, constraint)
    return number


def _scalar(shape: Shape, value: object, path: str, violations: Violations) -> Any:
    accepted = _ACCEPTED[shape.type_name]
    if not isinstance(value, accepted) or (isinstance(value, bool) and accepted is not bool):
        raise _type_error(value, shape.type_name.capitalize())
    return float(value) if shape.type_name == "timestamp" else value


def _opaque(shape: Shape, value: object, path: str, violations: Violations) -> Any:
    return value


_ACCEPTED: dict[str, Any] = {
    **dict.fromkeys(("integer", "long"), int),
    **dict.fromkeys(("float", "double", "timestamp"), int | float),
    "boolean": bool,
}
_VISITORS: dict[str, Callable[[Shape, object, str, Violations], Any]] = {
    "structure": _structure,
    "list": _list,
    "map": _map,
    "string": _string,
    "integer": _number,
    "long": _number,
    "float": _number,
    "double": _number,
    "boolean": _scalar,
    "timestamp": _scalar,
    "blob": _opaque,
}


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise _type_error(value, "String")
    return value


def _string_violations(shape: Shape, value: str) -> Iterator[str]:
    yield from _limit_violations(shape, len(value))
    pattern = shape.metadata.get("pattern")
    if pattern and not compiled(pattern).fullmatch(value):
        yield f"Member must satisfy regular expression pattern: {pattern}"
    if shape.enum and value not in shape.enum:
        yield f"Member must satisfy enum value set: [{', '.join(shape.enum)}]"


def _limit_violations(shape: Shape, number: float, noun: str = "length") -> Iterator[str]:
    limits = shape.metadata
    if "min" in limits and number < limits["min"]:
        yield _limit(shape, "min", noun)
    if "max" in limits and number > limits["max"]:
        yield _limit(shape, "max", noun)


def _limit(shape: Shape, limit: str, noun: str = "length") -> str:
    relation = "greater" if limit == "min" else "less"
    return f"Member must have {noun} {relation} than or equal to {shape.metadata[limit]}"


def _rules(shape: Shape) -> str:
    rules = [_limit(shape, limit) for limit in ("max", "min") if limit in shape.metadata]
    if "pattern" in shape.metadata:
        pattern = shape.metadata["pattern"]
        rules.append(f"Member must satisfy regular expression pattern: {pattern}")
    return f"[{', '.join(rules)}]"


# The service model has Java patterns; Python's `re` has no Unicode property classes.
_JAVA = {
    r"[\p{L}\p{Z}\p{N}_": r"[\w\u0020\u00a0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000",
    r"[\p{Print}]": r"[\x20-\x7e]",
    r"\p{ASCII}": r"[\x00-\x7f]",
    r"\z": r"\Z",
}


@cache
def compiled(pattern: str) -> re.Pattern[str]:
    for java, python in _JAVA.items():
        pattern = pattern.replace(java, python)
    return re.compile(pattern)


def _type_error(value: object, expected: str) -> ApiError:
    match value:
        case list():
            text = "Start of list found where not expected"
        case dict():
            text = "Start of structure or map found where not expected."
        case bool():
            text = f"{str(value).upper()}_VALUE can not be converted to {_with_article(expected)}"
        case int() | float():
            text = f"NUMBER_VALUE can not be converted to {_with_article(expected)}"
        case None:
            text = f"NULL_VALUE can not be converted to {_with_article(expected)}"
        case _:
            text = f"STRING_VALUE can not be converted to {_with_article(expected)}"
    return ApiError(text, "SerializationException")


def _with_article(noun: str) -> str:
    return f"{'an' if noun[0] in 'AEIOU' else 'a'} {noun}"


def _quoted(value: object) -> str:
    return "null" if value is None else f"'{_plain(value)}'"


def _plain(value: object) -> str:
    match value:
        case list():
            return f"[{', '.join(map(_plain, value))}]"
        case dict():
            return f"{{{', '.join(f'{key}={_plain(item)}' for key, item in value.items())}}}"
        case _:
            return str(value)


def _camel(name: str) -> str:
    return name[:1].lower() + name[1:]
