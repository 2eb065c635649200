"""JSON and UBJSON documents with bounds on their nesting.

XGBoost's parsers call themselves for each level: a file of two million brackets would overflow the stack.
"""

import json
import re
import struct
from typing import Any

import numpy as np

from model_handler.errors import ModelLoadFailed

MAX_DEPTH = 32
_TEXT = re.compile(rb'"(?:[^"\\]|\\.)*"', re.DOTALL)
_PLAIN_TEXT = re.compile(rb'"[^"]*"')
_OTHERS = bytes(set(range(256)) - set(b'[]{}"'))  # than brackets and quotes
_BRACKETS = bytes.maketrans(b"{}", b"[]")
# Type marker: number format, big-endian
_NUMBERS = {"i": ">i1", "U": ">u1", "I": ">i2", "l": ">i4", "L": ">i8", "d": ">f4", "D": ">f8"}
_SCALARS = {
    ord(marker): struct.Struct(f">{code}")
    for marker, code in zip("iUIlLdD", "bBhiqfd", strict=True)
}
_DTYPES = {ord(marker): np.dtype(name) for marker, name in _NUMBERS.items()}
_CONSTANTS = {ord("T"): True, ord("F"): False, ord("Z"): None}
_OBJECT, _ARRAY, _STRING, _CHARACTER, _INT64 = b"{[SCL"
_END_OF_OBJECT, _END_OF_ARRAY, _TYPE, _COUNT = b"}]$#"
_int64 = struct.Struct(">q").unpack_from


def parse(content: bytes, title: str) -> Any:
    """The document. Arrays of numbers in UBJSON become numpy arrays. Raises ModelLoadFailed."""
    try:
        if _is_json(content):
            _check_depth(content)
            return json.loads(content, object_pairs_hook=_distinct)
        return _Reader(content).document()
    except (ValueError, IndexError, KeyError, struct.error, RecursionError) as error:
        raise ModelLoadFailed(f"{title} is damaged: {error}") from None


def _is_json(content: bytes) -> bool:
    """XGBoost decides by the byte after the bracket as well: UBJSON has the length of a key there."""
    return content[1:2] in (b'"', b" ", b"\t", b"\r", b"\n", b"}")


def _distinct(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a key is given twice")
    return found


def _check_depth(content: bytes) -> None:
    """Remove texts, then the innermost pairs of brackets as often as they may be nested."""
    if b"\\" in content:
        content = _TEXT.sub(b"", content)
    # Without escaped quotes, a pair with nothing between can go: what is inside of texts stays there
    rest = content.translate(_BRACKETS, _OTHERS).replace(b'""', b"")
    rest = _PLAIN_TEXT.sub(b"", rest)
    for _ in range(MAX_DEPTH):
        rest = rest.replace(b"[]", b"")
    if rest:
        raise ValueError(f"brackets do not match, or it is nested deeper than {MAX_DEPTH} levels")


class _Reader:
    """Reads UBJSON. Positions are passed along: models have hundreds of thousands of values."""

    def __init__(self, content: bytes) -> None:
        self._content = content
        self._texts: dict[bytes, str] = {}  # keys are repeated in each tree

    def document(self) -> Any:
        value, at = self._value(0, MAX_DEPTH)
        if self._content[at:].strip(b"\0\n"):
            raise ValueError("something follows the document")
        return value

    def _value(self, at: int, levels: int) -> tuple[Any, int]:
        """The value whose marker is at `at`, and where it ends."""
        if levels < 0:
            raise ValueError(f"it is nested deeper than {MAX_DEPTH} levels")
        marker = self._content[at]
        if marker == _ARRAY:
            return self._array(at + 1, levels)
        if marker == _STRING:
            return self._text(at + 1)
        if marker == _OBJECT:
            return self._object(at + 1, levels)
        if marker in _CONSTANTS:
            return _CONSTANTS[marker], at + 1
        if marker == _CHARACTER:
            return chr(self._content[at + 1]), at + 2
        number = _SCALARS[marker]
        return number.unpack_from(self._content, at + 1)[0], at + 1 + number.size

    def _length(self, at: int) -> tuple[int, int]:
        if self._content[at] == _INT64:
            length, at = _int64(self._content, at + 1)[0], at + 9
        else:
            length, at = self._value(at, 0)
        if type(length) is not int or length < 0:
            raise ValueError("a length is no whole number")
        return length, at

    def _text(self, at: int) -> tuple[str, int]:
        length, at = self._length(at)
        raw = self._content[at : at + length]
        text = self._texts.get(raw)
        if text is None:
            text = self._texts[raw] = raw.decode("utf-8", "replace")
        if len(raw) < length:
            raise ValueError("it ends too early")
        return text, at + length

    def _object(self, at: int, levels: int) -> tuple[dict[str, Any], int]:
        found: dict[str, Any] = {}
        content, text, value = self._content, self._text, self._value
        while content[at] != _END_OF_OBJECT:
            key, at = text(at)
            if key in found:
                raise ValueError(f"{key} is given twice")
            found[key], at = value(at, levels - 1)
        return found, at + 1

    def _array(self, at: int, levels: int) -> tuple[Any, int]:
        content, dtype, count = self._content, None, -1
        if content[at] == _TYPE:
            dtype, at = _DTYPES[content[at + 1]], at + 2
        if content[at] == _COUNT:
            count, at = self._length(at + 1)
        if dtype is not None:
            end = at + count * dtype.itemsize
            if not at <= end <= len(content):
                raise ValueError("it ends too early")
            return np.frombuffer(content, dtype, count, at), end
        found = []
        while count != 0 if count >= 0 else content[at] != _END_OF_ARRAY:
            value, at = self._value(at, levels - 1)
            found.append(value)
            count -= 1 if count > 0 else 0
        return found, at + (count < 0)
