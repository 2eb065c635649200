"""The inputs of a graph by name, dtype and shape, and the binding of a request's arrays to them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from model_handler.errors import InvalidRequest
from model_handler.handlers.tensors import Array, Arrays

Dimension = int | str | None


@dataclass(frozen=True, slots=True)
class Input:
    """One input. `dtype`, `shape` and single dimensions are None where the format does not declare them."""

    name: str
    dtype: np.dtype[Any] | None = None
    shape: tuple[Dimension, ...] | None = None

    def __str__(self) -> str:
        if self.dtype is None or self.shape is None:
            return self.name
        sizes = ", ".join("any" if each is None else str(each) for each in self.shape)
        return f"{self.name}: {_named(self.dtype)} of shape ({sizes})"


def bind(given: Any, inputs: Sequence[Input]) -> Arrays:
    """The arrays by input name, cast to the inputs' dtypes. An array without name is for the only input.

    Raises InvalidRequest, naming the expected and the actual input.
    """
    named = given if isinstance(given, Mapping) else {inputs[0].name: given}
    if named.keys() != {each.name for each in inputs}:
        came = (
            ", ".join(map(str, named)) if isinstance(given, Mapping) else "one array without name"
        )
        expected = "; ".join(map(str, inputs))
        raise InvalidRequest(f"expected {expected}; got {came[:200]}")
    return {each.name: _fitted(named[each.name], each) for each in inputs}


def _fitted(values: Array, wanted: Input) -> Array:
    if wanted.shape is not None:
        values = _shaped(values, wanted)
    return values if wanted.dtype is None else cast(values, wanted.dtype, str(wanted))


def _shaped(values: Array, wanted: Input) -> Array:
    """`values` in the wanted shape. A single row may lack its leading dimension."""
    assert wanted.shape is not None
    row = values.ndim == len(wanted.shape) - 1 and wanted.shape[0] in (1, None, *_texts(wanted))
    shaped = values[np.newaxis] if row else values
    fits = shaped.ndim == len(wanted.shape) and all(
        not isinstance(size, int) or size == found
        for size, found in zip(wanted.shape, shaped.shape, strict=True)
    )
    if not fits:
        raise InvalidRequest(f"expected {wanted}; got shape {values.shape}")
    return shaped


def _texts(wanted: Input) -> tuple[str, ...]:
    return tuple(size for size in wanted.shape or () if isinstance(size, str))


def cast(values: Array, dtype: np.dtype[Any], expected: str) -> Array:
    """`values` as `dtype`. Raises InvalidRequest if a value would change by more than float rounding."""
    if values.dtype == dtype:
        return values
    if values.dtype.kind in "iu" and dtype.kind in "iu":
        limits = np.iinfo(dtype)
        fits = not values.size or (values.min() >= limits.min and values.max() <= limits.max)
    else:
        texts = "O" in (values.dtype.kind, dtype.kind)
        fits = not texts and np.can_cast(values.dtype, dtype, "same_kind")
    if not fits:
        raise InvalidRequest(f"expected {expected}; got {_named(values.dtype)}")
    with np.errstate(over="ignore"):
        return values.astype(dtype)


def _named(dtype: np.dtype[Any]) -> str:
    return "texts" if dtype.kind == "O" else dtype.name
