"""Encode arrays as JSON, JSON lines, CSV and npy, part by part: one call for all values would hold up the
process's other threads."""

import csv
import io
from collections.abc import Callable, Iterator
from typing import Any

import msgspec
import numpy as np

from model_handler.budgets import deadlines
from model_handler.codecs.media_types import CSV, JSON
from model_handler.errors import UnacceptableAccept
from model_handler.handlers.tensors import Array, ArrayAnswer

NPY = "application/x-npy"
JSON_LINES = "application/jsonlines"
_PART = 4096  # values


def _to_json(answer: ArrayAnswer) -> bytes:
    """`{"predictions": …}`; NaN and infinities become null."""
    return b"".join((b'{"predictions":', *_predictions(answer), b"}"))


def _predictions(answer: ArrayAnswer) -> Iterator[bytes]:
    if answer.by_row:
        return _listed(_records(answer))
    if len(answer.outputs) == 1:
        return _json(next(iter(answer.outputs.values())))
    return _object(answer.outputs)


def _object(outputs: Any) -> Iterator[bytes]:
    separator = b"{"
    for name, values in outputs.items():
        yield separator + msgspec.json.encode(name) + b":"
        yield from _json(values)
        separator = b","
    yield b"}" if outputs else b"{}"


def _json(values: Array) -> Iterator[bytes]:
    """The nested lists of an array."""
    if values.size <= _PART:
        yield msgspec.json.encode(values.tolist())
    elif values[0].size <= _PART:
        yield from _listed(part.tolist() for part in _parts(values))
    else:
        separator = b"["
        for row in values:
            yield separator
            yield from _json(row)
            separator = b","
        yield b"]"


def _listed(parts: Iterator[list[Any]]) -> Iterator[bytes]:
    """One JSON array of all parts, none of which is empty."""
    separator = b"["
    for part in parts:
        yield separator + msgspec.json.encode(part)[1:-1]
        separator = b","
    yield b"]" if separator == b"," else b"[]"


def _records(answer: ArrayAnswer) -> Iterator[list[dict[str, Any]]]:
    """Objects, one for each row, part by part."""
    outputs = answer.outputs
    (count,) = {len(values) for values in outputs.values()}
    for at in range(0, count, _PART):
        deadlines.check()
        rows = zip(*(values[at : at + _PART].tolist() for values in outputs.values()), strict=True)
        yield [dict(zip(outputs, row, strict=True)) for row in rows]


def _parts(values: Array) -> Iterator[Array]:
    """Rows that together have about _PART values."""
    rows = max(1, _PART // max(1, values[:1].size))
    for at in range(0, len(values), rows):
        deadlines.check()
        yield values[at : at + rows]


def _to_json_lines(answer: ArrayAnswer) -> bytes:
    if answer.by_row:
        records = (record for part in _records(answer) for record in part)
        return b"".join(msgspec.json.encode(record) + b"\n" for record in records)
    return b"".join(part for row in _only(answer) for part in (*_json(np.asarray(row)), b"\n"))


def _to_csv(answer: ArrayAnswer) -> bytes:
    """One line per row, without a header."""
    values = _only(answer)
    if values.ndim > 2:
        raise UnacceptableAccept(
            f"an answer of {values.ndim} dimensions is not a table; ask for JSON"
        )
    stream = io.StringIO(newline="")
    table = values.reshape(len(values), -1)
    if table.shape[1] <= _PART:
        writer = csv.writer(stream, lineterminator="\n")
        for part in _parts(table):
            writer.writerows(part.tolist())
    else:
        for row in table:
            _write_long(stream, row)
    return stream.getvalue().encode()


def _write_long(stream: io.StringIO, row: Array) -> None:
    writer = csv.writer(stream, lineterminator="")
    for at, part in enumerate(_parts(row)):
        if at:
            stream.write(",")
        writer.writerow(part.tolist())
    stream.write("\n")


def _to_npy(answer: ArrayAnswer) -> bytes:
    values = _only(answer)
    if values.dtype == object:
        values = values.astype(np.str_)
    stream = io.BytesIO()
    np.lib.format.write_array(stream, values, allow_pickle=False)
    return stream.getvalue()


def _only(answer: ArrayAnswer) -> Array:
    if len(answer.outputs) != 1:
        names = ", ".join(answer.outputs)
        raise UnacceptableAccept(f"the answer has several parts ({names}); ask for JSON")
    return np.atleast_1d(next(iter(answer.outputs.values())))


ENCODERS: dict[str, Callable[[ArrayAnswer], bytes]] = {
    JSON: _to_json,
    JSON_LINES: _to_json_lines,
    CSV: _to_csv,
    NPY: _to_npy,
}
