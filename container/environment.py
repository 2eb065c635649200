"""Reads and documents the fields of a frozen dataclass that are set by environment variables."""

import dataclasses
import difflib
import os
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from container.variables import NotAllowed, Parse

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

D = TypeVar("D", bound="DataclassInstance")


class SettingsError(Exception):
    """`str(error)` is one line for the user."""


class Variable(NamedTuple):
    """The environment variables of a field, of which the first that is set applies.

    `default`: description of the default, if its value alone is not clear.
    """

    names: tuple[str, ...]
    parse: Parse
    text: str
    default: str


def variable(value: Any, *names: str, parse: Parse, text: str, default: str = "") -> Any:
    """A dataclass field with the default `value` that is set by environment variables."""
    about = Variable(names, parse, text, default)
    return dataclasses.field(default=value, metadata={Variable: about})


def read(cls: type[D], environ: Mapping[str, str], prefix: str) -> D:
    """Raises SettingsError for a value that is not allowed, and for an unknown variable with this prefix."""
    variables = _variables(cls)
    _refuse_unknown(variables, environ, prefix)
    return cls(**dict(_values(variables, environ)))


def rows(cls: type[D]) -> Iterator[tuple[tuple[str, ...], str, str]]:
    """Per field: its variables, its meaning and its default."""
    variables = _variables(cls)
    for field in dataclasses.fields(cls):
        variable = variables[field.name]
        yield variable.names, variable.text, variable.default or _default(field.name, field.default)


def shown(value: object) -> object:
    """A field's value for the log."""
    if isinstance(value, tuple):
        return os.pathsep.join(map(str, value))
    return "unset" if value is None else value


def _default(name: str, value: object) -> str:
    """The default in the notation of the variable."""
    if isinstance(value, bool):
        return str(value).lower()
    if name.endswith("_nbytes") and isinstance(value, int) and value:
        return f"{value >> 20}MiB"
    return f"{value:g}" if isinstance(value, float) else str(shown(value))


def _variables(cls: type[D]) -> dict[str, Variable]:
    """Keyed by the name of the field."""
    return {field.name: field.metadata[Variable] for field in dataclasses.fields(cls)}


def _values(
    variables: Mapping[str, Variable], environ: Mapping[str, str]
) -> Iterator[tuple[str, Any]]:
    """The fields whose variable is set. Empty counts as unset, because templates set variables to empty."""
    for field, variable in variables.items():
        for name in variable.names:
            if text := environ.get(name, "").strip():
                yield field, _parsed(name, text, variable.parse)
                break


def _parsed(name: str, text: str, parse: Parse) -> Any:
    try:
        return parse(text)
    except NotAllowed as allowed:
        raise SettingsError(f"{name}={text[:200]!r} is not allowed: give {allowed}") from None


def _refuse_unknown(
    variables: Mapping[str, Variable], environ: Mapping[str, str], prefix: str
) -> None:
    names = [name for variable in variables.values() for name in variable.names]
    known = [name for name in names if name.startswith(prefix)]
    for name in sorted(environ):
        if name.startswith(prefix) and name not in known:
            nearest = difflib.get_close_matches(name, known, n=1, cutoff=0.0)[0]
            raise SettingsError(
                f"{name}={environ[name][:200]!r} is unknown: did you mean {nearest}?"
            )
