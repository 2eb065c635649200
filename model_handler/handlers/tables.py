"""Input of tabular models: one table of numbers with checked and ordered columns."""

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np

from model_handler.errors import InvalidRequest
from model_handler.handlers.tensors import Array


def table(inputs: Any, columns: int | None, names: Sequence[str] | None) -> Array:
    """Rows of numbers. Named columns may be in any order; a flat list of numbers is one row.

    Raises InvalidRequest, naming the expected and the actual columns.
    """
    given: Array = _ordered(inputs, names) if isinstance(inputs, Mapping) else inputs
    if given.dtype.kind not in "biuf":
        raise InvalidRequest("the model takes numbers, the input has texts")
    rows = given.reshape(1, -1) if given.ndim == 1 else given
    if rows.ndim != 2:
        raise InvalidRequest(f"the model takes rows of numbers, the input has shape {given.shape}")
    if columns is not None and rows.shape[1] != columns:
        raise InvalidRequest(f"the model takes {columns} columns, the input has {rows.shape[1]}")
    if not len(rows):
        raise InvalidRequest("the input has no rows")
    return rows


def _ordered(inputs: Mapping[str, Array], names: Sequence[str] | None) -> Array:
    if names is not None and inputs.keys() != set(names):
        missing = _listed(set(names) - inputs.keys())
        unknown = _listed(inputs.keys() - set(names))
        raise InvalidRequest(f"columns by name: {missing} missing, {unknown} unknown to the model")
    columns = [inputs[name].reshape(-1) for name in names or inputs]
    if not columns or len({len(column) for column in columns}) > 1:
        raise InvalidRequest("columns by name: there are none, or they have different lengths")
    return np.column_stack(columns)


def _listed(names: Collection[str]) -> str:
    if not names:
        return "none"
    few = ", ".join(sorted(names)[:5])
    return (few if len(names) <= 5 else f"{few} and {len(names) - 5} more")[:300]
