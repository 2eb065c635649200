"""Decode arrays from bytes and encode them: JSON, CSV, npy and libsvm, as SageMaker's built-in algorithms do.

Invariant: nothing here executes what it reads. Memory is bounded by the length of the body and the limit on
values, before the body is parsed.
"""

import copy
import csv
import io
import itertools
import math
import re
from collections.abc import Callable, Iterator
from typing import Any, Self

import numpy as np

from model_handler.budgets import deadlines
from model_handler.budgets.limits import EXPANSION, check
from model_handler.codecs import array_answers, large_json, media_types, toolkit
from model_handler.codecs.array_answers import JSON_LINES, NPY
from model_handler.codecs.media_types import CSV, JSON
from model_handler.errors import InvalidRequest, UnsupportedContentType
from model_handler.handlers import Payload
from model_handler.handlers.tensors import Array, ArrayAnswer
from model_handler.messages import InferenceRequest
from model_handler.options import RequestLimits

LIBSVM = ("text/libsvm", "text/x-libsvm")
_NUMBERS = "biuf"
_WORD = re.compile(r"\S+")
_PART = 1 << 16  # values that NumPy reads from lists at a time
_SPARSE = (
    16  # times as many cells as values in other bodies: most cells of a libsvm body are missing
)


class ArrayCodec:
    """`default`: media type for callers that accept any. `columns`: width of libsvm rows; None: no libsvm."""

    def __init__(self, *, default: str = JSON, columns: int | None = None) -> None:
        self._offered = tuple(dict.fromkeys((default, JSON, CSV, NPY, JSON_LINES)))
        self._columns = columns
        self.limits = RequestLimits()

    def within(self, limits: RequestLimits) -> Self:
        limited = copy.copy(self)
        limited.limits = limits
        return limited

    def check_accept(self, accept: str | None) -> None:
        media_types.choose(accept, self._offered)

    def decode(self, request: InferenceRequest) -> Payload:
        media, charset = media_types.parse(request.content_type or JSON)
        if media == NPY:
            return Payload(_npy(request.body, self.limits))
        if media not in LIBSVM:
            toolkit.check_values(request.body, self.limits)
            _check_texts(request.body, charset, self.limits)
        if media == JSON or media.endswith("+json"):
            return _document(toolkit.parse_json(request.body, charset))
        text = media_types.text(request.body, charset)
        if media == JSON_LINES:
            return Payload(
                _values([toolkit.parse_json(each.encode(), None) for each in _lines(text)])
            )
        if media == CSV:
            return Payload(_csv(text))
        if media in LIBSVM and self._columns is not None:
            return Payload(_sparse(text, self._columns, self.limits))
        raise UnsupportedContentType(f"no decoder for {media[:80]}; send {self._accepted()}")

    def encode(self, answer: ArrayAnswer, accept: str | None) -> tuple[bytes, str]:
        media = media_types.choose(accept, self._offered)
        count = sum(each.size for each in answer.outputs.values())
        check(self.limits, "values", count, "values in the answer", times=EXPANSION)
        return array_answers.ENCODERS[media](answer), media

    def _accepted(self) -> str:
        return ", ".join((JSON, JSON_LINES, CSV, NPY, *(LIBSVM if self._columns else ())))


def _check_texts(body: bytes, charset: str | None, limits: RequestLimits) -> None:
    """An array of texts takes as much memory for each as for the longest."""
    most = limits.values * _SPARSE
    if len(body) ** 2 <= 2 * most:
        return
    plain = body if charset is None else media_types.text(body, charset).encode()
    cells = plain.count(b",") + 1
    longest = large_json.longest_string(plain)
    check(limits, "values", cells * longest, "characters (cells × longest text)", times=_SPARSE)


def _lines(text: str) -> Iterator[str]:
    """Those that are not blank, one at a time: a list of all would hold up the process's other threads."""
    for line in io.StringIO(text, newline=None):
        deadlines.check()
        if not line.isspace():
            yield line


# ---- JSON ----


def _document(document: Any) -> Payload:
    """`{"instances": …}`, `{"inputs": …}`, or the value of either without the object around it."""
    if not isinstance(document, dict):
        return Payload(_values(document))
    parameters = document.get("parameters") or {}
    if not isinstance(parameters, dict):
        raise InvalidRequest('"parameters" has to be an object')
    for key in ("inputs", "instances"):
        if key in document:
            return Payload(_values(document[key]), parameters)
    raise InvalidRequest('the JSON object has neither "instances" nor "inputs"')


def _values(value: Any) -> Array | dict[str, Array]:
    """One array, or arrays by name. Named arrays come as one object, or as one object per row."""
    if isinstance(value, dict):
        return {name: array(each, name) for name, each in value.items()}
    if not (isinstance(value, list) and value and isinstance(value[0], dict)):
        return array(value, "the input")
    rows = [_features(row) for row in value]
    if any(isinstance(row, dict) for row in rows):
        return _columns(rows)
    return array(rows, "the input")


def _features(row: Any) -> Any:
    """Unwrap rows of SageMaker's algorithms: {"features": […]}, {"data": {"features": {"values": …}}}."""
    while isinstance(row, dict) and len(row) == 1 and row.keys() <= {"data", "features", "values"}:
        row = next(iter(row.values()))
    return row


def _columns(rows: list[Any]) -> dict[str, Array]:
    names = list(rows[0]) if isinstance(rows[0], dict) else []
    for index, row in enumerate(rows):
        if not isinstance(row, dict) or row.keys() != set(names):
            raise InvalidRequest(f"instance {index} has different keys than instance 0")
    return {name: array([row[name] for row in rows], name) for name in names}


def array(value: Any, what: str) -> Array:
    """An array of numbers (null: a missing one) or of texts only. Raises InvalidRequest naming `what`."""
    try:
        found = _in_parts(value, _array)
    except (TypeError, ValueError, OverflowError):
        raise InvalidRequest(f"{what[:60]}: not numbers, or rows of different lengths") from None
    if found.dtype.kind == "U":
        found = _in_parts(value, _texts)
        if not all(isinstance(each, str) for each in found.flat):
            raise InvalidRequest(f"{what[:60]}: texts and numbers are mixed")
    return found


def _array(value: Any) -> Array:
    found = np.array(value)
    if found.dtype == object:  # null, or a number beyond 64 bits
        return np.array(value, dtype=np.float64)
    return found


def _texts(value: Any) -> Array:
    return np.array(value, dtype=object)


def _in_parts(value: Any, make: Callable[[Any], Array]) -> Array:
    """The array of nested lists, made of _PART values at a time: other threads run between two of them.

    Raises ValueError for lists of different lengths.
    """
    shape = _shape(value)
    if math.prod(shape) <= _PART:
        return make(value)
    rows = max(1, _PART // math.prod(shape[1:]))
    if rows == 1:
        return np.stack([_in_parts(each, make) for each in value])
    parts = (value[at : at + rows] for at in range(0, len(value), rows))
    return np.concatenate([_in_parts(part, make) for part in parts])


def _shape(value: Any) -> list[int]:
    """Of the first row of each dimension."""
    shape = []
    while isinstance(value, list) and value:
        shape.append(len(value))
        value = value[0]
    return shape


# ---- CSV, libsvm, npy ----


def _csv(text: str) -> Array | dict[str, Array]:
    """Numbers, an empty cell being a missing one.

    The first line is a header if every cell holds text. With unique names it returns one array per name.
    """
    rows = (row for row in csv.reader(io.StringIO(text, newline=""), strict=True) if row)
    try:
        first = next(rows, None)
        if first is None:
            raise InvalidRequest("the CSV body has no rows")
        header = [cell.strip() for cell in first]
        if not all(cell and not _is_number(cell) for cell in header):
            return _table(itertools.chain([first], rows), 1, len(first))
        table = _table(rows, 2, len(header))
    except csv.Error as error:
        raise InvalidRequest(f"the body is not CSV: {error}") from None
    return dict(zip(header, table.T, strict=True)) if len(set(header)) == len(header) else table


def _table(rows: Iterator[list[str]], first: int, width: int) -> Array:
    """`first`: number of the first line. A part of the rows is read at a time, since cells as texts take
    much memory, and are freed in one go."""
    count = max(1, _PART // width)
    parts = []
    while part := list(itertools.islice(rows, count)):
        deadlines.check()
        parts.append(_numbers(part, first, width))
        first += len(part)
    if not parts:
        raise InvalidRequest("the CSV body has a header and no rows")
    return np.concatenate(parts)


def _numbers(rows: list[list[str]], first: int, width: int) -> Array:
    for line, row in enumerate(rows, first):
        if len(row) != width:
            raise InvalidRequest(f"line {line} has {len(row)} columns, others have {width}")
    try:
        if any("_" in cell for row in rows for cell in row):
            raise ValueError("Python would read 1_000 as a number")
        return np.array([[float(cell) if cell.strip() else np.nan for cell in row] for row in rows])
    except ValueError:
        raise InvalidRequest(_first_text(rows, first)) from None


def _first_text(rows: list[list[str]], first: int) -> str:
    places = (
        (line, column)
        for line, row in enumerate(rows, first)
        for column, cell in enumerate(row, 1)
        if cell.strip() and not _is_number(cell)
    )
    line, column = next(places)
    return f"line {line}, column {column}: not a number"


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return "_" not in cell


def _sparse(text: str, columns: int, limits: RequestLimits) -> Array:
    """libsvm: `<index>:<value>` pairs, indices from 0, after an optional label. Other cells are missing."""
    lines = list(_lines(text))
    if not lines:
        raise InvalidRequest("the libsvm body has no rows")
    check(limits, "values", len(lines) * columns, "cells", times=_SPARSE)
    table = np.full((len(lines), columns), np.nan, dtype=np.float32)
    for row, line in enumerate(lines):
        for index, value in _pairs(line, row):
            if not 0 <= index < columns:
                raise InvalidRequest(
                    f"row {row} names column {index}; the model has 0 to {columns - 1}"
                )
            table[row, index] = value
    return table


def _pairs(line: str, row: int) -> Iterator[tuple[int, float]]:
    for item in _WORD.finditer(line):
        index, colon, value = item.group().partition(":")
        if not colon:
            continue
        try:
            yield int(index), float(value)
        except ValueError:
            raise InvalidRequest(f"row {row} has a pair that is not <index>:<value>") from None


def _npy(body: bytes, limits: RequestLimits) -> Array:
    """An array of numbers. The body's length is checked against the header before anything is allocated."""
    stream = io.BytesIO(body)
    try:
        shape, in_columns, dtype = _npy_header(stream)
    except ValueError:
        raise InvalidRequest("the body is not npy, version 1 or 2") from None
    if dtype.kind not in _NUMBERS:
        raise InvalidRequest(f"npy of {dtype.name}: only numbers are read, never objects")
    count = int(np.prod([max(0, each) for each in shape], dtype=object))
    if min(shape, default=0) < 0 or len(body) - stream.tell() != count * dtype.itemsize:
        raise InvalidRequest("the npy body is longer or shorter than its header says")
    check(limits, "values", count, "values in the array")
    values = np.frombuffer(body, dtype, count, stream.tell())
    return values.reshape(shape, order="F" if in_columns else "C").astype(dtype.newbyteorder("="))


def _npy_header(stream: io.BytesIO) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    read = {
        (1, 0): np.lib.format.read_array_header_1_0,
        (2, 0): np.lib.format.read_array_header_2_0,
    }
    version = np.lib.format.read_magic(stream)
    if version not in read:
        raise ValueError(version)
    return read[version](stream)
