"""Intrinsic functions: a template's expressions against what is known, as plain values.

A scope knows nothing that has not been made yet: resources are resolved in the order of their dependencies.
"""

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from emulator.cloudformation.refusals import invalid, not_here

Expression = Any
NO_VALUE = "AWS::NoValue"

_PLACEHOLDER = re.compile(r"\$\{(!?)([^}]*)\}")
_ABSENT = object()
_SHORT = ("Ref", "Condition")


@dataclass(frozen=True, slots=True)
class Identity:
    """What Ref and Fn::GetAtt say of a resource."""

    physical_id: str
    attributes: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Scope:
    """`values`: parameters and pseudo parameters. `block`: the section that is resolved, for texts."""

    values: Mapping[str, str | list[str]]
    mappings: Mapping[str, Any] = field(default_factory=dict)
    conditions: Mapping[str, bool] = field(default_factory=dict)
    resources: Mapping[str, Identity] = field(default_factory=dict)
    block: str = "Resources"

    def value(self, name: str) -> Any:
        if name == NO_VALUE:
            return _ABSENT
        if name in self.values:
            return self.values[name]
        return self._resource(name).physical_id

    def attribute(self, name: str, attribute: str) -> str:
        known = self._resource(name).attributes
        if attribute not in known:
            raise invalid(f"Template error: resource {name} does not support attribute {attribute}")
        return known[attribute]

    def condition(self, name: str) -> bool:
        if name not in self.conditions:
            raise invalid(f"Template error: unresolved condition dependency {name}")
        return self.conditions[name]

    def _resource(self, name: str) -> Identity:
        if name not in self.resources:
            raise unresolved([name], self.block)
        return self.resources[name]


def unresolved(names: list[str], block: str) -> Exception:
    return invalid(
        f"Template format error: Unresolved resource dependencies [{', '.join(names)}] in the "
        f"{block} block of the template"
    )


def resolved(expression: Expression, scope: Scope) -> Any:
    """Without what is AWS::NoValue."""
    value = _resolve(expression, scope)
    return None if value is _ABSENT else value


def function(expression: Expression) -> str | None:
    """The name of the function that the expression calls."""
    if isinstance(expression, dict) and len(expression) == 1:
        name, arguments = next(iter(expression.items()))
        if name.startswith("Fn::") or (name in _SHORT and isinstance(arguments, str)):
            return str(name)
    return None


def references(expression: Expression) -> Iterator[str]:
    """Every name that the expression mentions by Ref, Fn::GetAtt or Fn::Sub, in either branch."""
    match expression:
        case {"Ref": str(name)}:
            yield name
        case {"Fn::GetAtt": target}:
            yield _attribute(target)[0]
        case {"Fn::Sub": template}:
            text, own = _substitution(template)
            named = (name.partition(".")[0] for literal, name in _placeholders(text) if not literal)
            yield from (name for name in named if name not in own)
            yield from references(own)
        case dict():
            for item in expression.values():
                yield from references(item)
        case list():
            for item in expression:
                yield from references(item)


def named_conditions(expression: Expression) -> Iterator[str]:
    match expression:
        case {"Condition": str(name)}:
            yield name
        case {"Fn::If": [str(name), *branches]}:
            yield name
            yield from named_conditions(branches)
        case dict():
            for item in expression.values():
                yield from named_conditions(item)
        case list():
            for item in expression:
                yield from named_conditions(item)


def unknown_functions(expression: Expression) -> set[str]:
    match expression:
        case dict():
            named = {
                str(key) for key in expression if str(key).startswith("Fn::")
            } - _FUNCTIONS.keys()
            return named.union(*map(unknown_functions, expression.values()))
        case list():
            return set().union(*map(unknown_functions, expression))
        case _:
            return set()


def text(value: Any) -> str:
    """As CloudFormation writes a plain value into a string."""
    match value:
        case bool():
            return str(value).lower()
        case str() | int() | float():
            return str(value)
        case _:
            raise invalid(f"Template error: a string is needed where {value!r} is")


def _resolve(expression: Expression, scope: Scope) -> Any:
    name = function(expression)
    if name is not None:
        return called(name)(expression[name], scope)
    match expression:
        case dict():
            items = {key: _resolve(item, scope) for key, item in expression.items()}
            return {key: item for key, item in items.items() if item is not _ABSENT}
        case list():
            return [v for v in (_resolve(item, scope) for item in expression) if v is not _ABSENT]
        case _:
            return expression


def called(name: str) -> "Function":
    if name not in _FUNCTIONS:
        raise not_here(f"Function {name}")
    return _FUNCTIONS[name]


def _ref(name: Any, scope: Scope) -> Any:
    return scope.value(str(name))


def _get_att(target: Any, scope: Scope) -> Any:
    name, attribute = _attribute(target)
    return scope.attribute(name, text(resolved(attribute, scope)))


def _sub(template: Any, scope: Scope) -> str:
    pattern, expressions = _substitution(template)
    own = {name: text(resolved(item, scope)) for name, item in expressions.items()}

    def value(match: re.Match[str]) -> str:
        literal, name = match[1], match[2].strip()
        if literal:
            return f"${{{name}}}"
        if name in own:
            return own[name]
        resource, dot, attribute = name.partition(".")
        return scope.attribute(resource, attribute) if dot else text(scope.value(name))

    return _PLACEHOLDER.sub(value, pattern)


def _if(arguments: Any, scope: Scope) -> Any:
    condition, true, false = _listed("Fn::If", arguments, 3)
    return _resolve(true if scope.condition(condition) else false, scope)


def _join(arguments: Any, scope: Scope) -> str:
    delimiter, items = _listed("Fn::Join", arguments, 2)
    parts: list[Any] = resolved(items, scope)
    return str(delimiter).join(map(text, parts))


def _split(arguments: Any, scope: Scope) -> list[str]:
    delimiter, source = _listed("Fn::Split", arguments, 2)
    return text(resolved(source, scope)).split(delimiter)


def _select(arguments: Any, scope: Scope) -> Any:
    index, items = (resolved(item, scope) for item in _listed("Fn::Select", arguments, 2))
    numbered = str(index).isdecimal() and isinstance(items, list)
    if not numbered or int(index) >= len(items):
        raise invalid(
            f"Template error: Fn::Select cannot select nonexistent value at index {index}"
        )
    return items[int(index)]


def _find_in_map(arguments: Any, scope: Scope) -> Any:
    name, first, second = (
        text(resolved(item, scope)) for item in _listed("Fn::FindInMap", arguments, 3)
    )
    try:
        return scope.mappings[name][first][second]
    except (KeyError, TypeError):
        raise invalid(
            f"Template error: Unable to get mapping for {name}::{first}::{second}"
        ) from None


def _equals(arguments: Any, scope: Scope) -> bool:
    left, right = (text(resolved(item, scope)) for item in _listed("Fn::Equals", arguments, 2))
    return left == right


def _not(arguments: Any, scope: Scope) -> bool:
    (condition,) = _listed("Fn::Not", arguments, 1)
    return not resolved(condition, scope)


def _and(arguments: Any, scope: Scope) -> bool:
    return all(resolved(item, scope) for item in arguments)


def _or(arguments: Any, scope: Scope) -> bool:
    return any(resolved(item, scope) for item in arguments)


def _condition(name: Any, scope: Scope) -> bool:
    return scope.condition(str(name))


Function = Callable[[Any, Scope], Any]
_FUNCTIONS: dict[str, Function] = {
    "Ref": _ref,
    "Condition": _condition,
    "Fn::GetAtt": _get_att,
    "Fn::Sub": _sub,
    "Fn::If": _if,
    "Fn::Join": _join,
    "Fn::Split": _split,
    "Fn::Select": _select,
    "Fn::FindInMap": _find_in_map,
    "Fn::Equals": _equals,
    "Fn::Not": _not,
    "Fn::And": _and,
    "Fn::Or": _or,
}


def _attribute(target: Any) -> tuple[str, Any]:
    """Of `Name.Attribute` or [Name, Attribute]."""
    if isinstance(target, str):
        name, _, attribute = target.partition(".")
        return name, attribute
    name, attribute = _listed("Fn::GetAtt", target, 2)
    return str(name), attribute


def _substitution(template: Any) -> tuple[str, dict[str, Expression]]:
    if isinstance(template, str):
        return template, {}
    pattern, own = _listed("Fn::Sub", template, 2)
    return str(pattern), own


def _placeholders(pattern: str) -> list[tuple[str, str]]:
    return [(literal, name.strip()) for literal, name in _PLACEHOLDER.findall(pattern)]


def _listed(name: str, arguments: Any, count: int) -> list[Any]:
    if not isinstance(arguments, list) or len(arguments) != count:
        raise invalid(f"Template error: {name} takes a list of {count}")
    return arguments
