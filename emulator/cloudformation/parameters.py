"""A template's parameters: what was given, what was given before, and the defaults, each checked."""

import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from emulator.cloudformation.functions import text
from emulator.cloudformation.refusals import invalid, not_here

Declaration = Mapping[str, Any]
Given = list[dict[str, Any]]

_LISTS = ("CommaDelimitedList", "List<Number>")
_TYPES = ("String", "Number", *_LISTS)


def check_declaration(name: str, declaration: Declaration) -> None:
    kind = declaration.get("Type")
    if kind not in _TYPES:
        raise not_here(f"Type {kind} of parameter {name}")


def chosen(
    declarations: Mapping[str, Declaration], given: Given, previous: Mapping[str, str]
) -> dict[str, str]:
    """A text for each parameter. `previous`: those of the stack as it is."""
    own = _own(given, previous)
    if unknown := [name for name in own if name not in declarations]:
        raise invalid(f"Parameters: [{', '.join(unknown)}] do not exist in the template")
    values = {
        name: own.get(name, _default(declaration)) for name, declaration in declarations.items()
    }
    if missing := [name for name, value in values.items() if value is None]:
        raise invalid(f"Parameters: [{', '.join(missing)}] must have values")
    known = {name: value for name, value in values.items() if value is not None}
    for name, value in known.items():
        _check(name, declarations[name], value)
    return known


def typed(declarations: Mapping[str, Declaration], values: Mapping[str, str]) -> dict[str, Any]:
    """As Ref gives them: lists where the type is one."""
    return {name: _typed(declarations[name], value) for name, value in values.items()}


def _own(given: Given, previous: Mapping[str, str]) -> dict[str, str]:
    own = {}
    for entry in given:
        name = entry.get("ParameterKey", "")
        if not entry.get("UsePreviousValue"):
            own[name] = entry.get("ParameterValue", "")
        elif name in previous:
            own[name] = previous[name]
        else:
            raise invalid(f"Parameter {name} has no previous value")
    return own


def _default(declaration: Declaration) -> str | None:
    return text(declaration["Default"]) if "Default" in declaration else None


def _typed(declaration: Declaration, value: str) -> str | list[str]:
    return _items(value) if declaration["Type"] in _LISTS else value


def _items(value: str) -> list[str]:
    return [item.strip() for item in value.split(",")]


def _check(name: str, declaration: Declaration, value: str) -> None:
    items = _items(value) if declaration["Type"] in _LISTS else [value]
    for violation in (v for item in items for v in _violations(declaration, item)):
        described = declaration.get("ConstraintDescription")
        raise invalid(
            f"Parameter {name} failed to satisfy constraint: {described}"
            if described
            else f"Parameter '{name}' must {violation}"
        )


def _violations(declaration: Declaration, value: str) -> Iterator[str]:
    if "Number" in declaration["Type"]:
        yield from _number_violations(declaration, value)
    allowed = [text(item) for item in declaration.get("AllowedValues", [value])]
    if value not in allowed:
        yield f"be one of AllowedValues: {', '.join(allowed)}"
    pattern = declaration.get("AllowedPattern")
    if pattern is not None and not re.fullmatch(pattern, value):
        yield f"match pattern {pattern}"
    if len(value) < int(declaration.get("MinLength", 0)):
        yield f"contain at least {declaration['MinLength']} characters"
    if len(value) > int(declaration.get("MaxLength", len(value))):
        yield f"contain at most {declaration['MaxLength']} characters"


def _number_violations(declaration: Declaration, value: str) -> Iterator[str]:
    try:
        number = float(value)
    except ValueError:
        yield "be a number"
        return
    for key, fails, words in _BOUNDS:
        if key in declaration and fails(number, float(declaration[key])):
            yield f"be a number {words} {declaration[key]}"


_BOUNDS: tuple[tuple[str, Callable[[float, float], bool], str], ...] = (
    ("MinValue", lambda number, bound: number < bound, "not less than"),
    ("MaxValue", lambda number, bound: number > bound, "not greater than"),
)
