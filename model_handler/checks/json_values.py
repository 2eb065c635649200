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
_TEXT_OR_BRACKET = re.compile(rb'"(?:[^"\\]|\\.)*"|[\[\]{}]', re.DOTALL)
# Type marker: number format, big-endian
_NUMBERS = {"i": ">i1", "U": ">u1", "I": ">i2", "l": ">i4", "L": ">i8", "d": ">f4", "D": ">f8"}
_SCALARS = {
    marker: struct.Struct(f">{code}") for marker, code in zip("iUIlLdD", "bBhiqfd", strict=True)
}
_DTYPES = {marker: np.dtype(name) for marker, name in _NUMBERS.items()}
_CONSTANTS = {"T": True, "F": False, "Z": None}
_OPENING = b"[{"


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
    depth = 0
    for found in _TEXT_OR_BRACKET.finditer(content):
        first = content[found.start()]
        if first == ord('"'):
            continue
        depth += 1 if first in _OPENING else -1
        if depth > MAX_DEPTH:
            raise ValueError(f"it is nested deeper than {MAX_DEPTH} levels")


class _Reader:
    def __init__(self, content: bytes) -> None:
        self._content = content
        self._at = 0

    def document(self) -> Any:
        value = self._value(self._marker(), MAX_DEPTH)
        if self._content[self._at :].strip(b"\0\n"):
            raise ValueError("something follows the document")
        return value

    def _marker(self) -> str:
        self._at += 1
        return chr(self._content[self._at - 1])

    def _take(self, nbytes: int) -> bytes:
        if nbytes < 0 or self._at + nbytes > len(self._content):
            raise ValueError("it ends too early")
        self._at += nbytes
        return self._content[self._at - nbytes : self._at]

    def _value(self, marker: str, levels: int) -> Any:
        if levels < 0:
            raise ValueError(f"it is nested deeper than {MAX_DEPTH} levels")
        if marker == "{":
            return self._object(levels)
        if marker == "[":
            return self._array(levels)
        if marker == "S":
            return self._text()
        if marker == "C":
            return chr(self._take(1)[0])
        if marker in _CONSTANTS:
            return _CONSTANTS[marker]
        number = _SCALARS[marker]
        return number.unpack(self._take(number.size))[0]

    def _text(self) -> str:
        return self._take(self._length()).decode("utf-8", "replace")

    def _length(self) -> int:
        length = self._value(self._marker(), 0)
        if type(length) is not int or length < 0:
            raise ValueError("a length is no whole number")
        return length

    def _object(self, levels: int) -> dict[str, Any]:
        found: dict[str, Any] = {}
        while self._content[self._at] != ord("}"):
            key = self._text()
            if key in found:
                raise ValueError(f"{key} is given twice")
            found[key] = self._value(self._marker(), levels - 1)
        self._at += 1
        return found

    def _array(self, levels: int) -> Any:
        kind, count = "", -1
        if self._content[self._at] == ord("$"):
            self._at += 1
            kind = self._marker()
        if self._content[self._at] == ord("#"):
            self._at += 1
            count = self._length()
        if kind:
            dtype = _DTYPES[kind]
            return np.frombuffer(self._take(count * dtype.itemsize), dtype)
        found = []
        while count != 0 if count >= 0 else self._content[self._at] != ord("]"):
            found.append(self._value(self._marker(), levels - 1))
            count -= 1 if count > 0 else 0
        self._at += count < 0
        return found
