"""Parse large JSON bodies in pieces, between which other threads of the process run.

`json.loads` holds the interpreter for the whole body. The values here are the same, and so is what is
refused, with one exception: not more than MAX_DEPTH levels may each hold more than a piece.
"""

import json
import re
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from model_handler.budgets import deadlines

LARGE_NBYTES = 256 << 10  # smaller bodies are parsed at once, in less than 10 ms
_FEW = 10_000  # values and escapes, with which a body of long texts is parsed at once too
PIECE_NBYTES = 64 << 10
MAX_DEPTH = 64
_DEEPEST = 1000  # of json.loads, by the recursion limit
_BLOCK_NBYTES = 256 << 10
_IN_STRING = np.iinfo(np.int16).max
_QUOTE, _COMMA, _COLON = b'",:'
_BLANK = re.compile(rb"[ \t\n\r]*")
_CLOSING = {b"[": b"]", b"{": b"}"}


def has_many_values(body: bytes) -> bool:
    """Whether json.loads would hold the interpreter for long."""
    return sum(map(body.count, (b",", b"[", b"{", b"\\"))) > _FEW


def loads(body: bytes) -> Any:
    """`body`: UTF-8 without a byte order mark. Raises what json.loads raises, and DeadlineExceeded."""
    start = _after_blanks(body, 0)
    if body[start : start + 1] not in _CLOSING:
        return json.loads(body)
    value, end = _Pieces(body).container(start, 1)
    if (rest := _after_blanks(body, end)) < len(body):
        raise _error("Extra data", body, rest)
    return value


class _Pieces:
    def __init__(self, body: bytes) -> None:
        self._body = body
        self._bytes = np.frombuffer(body, np.uint8)
        self._levels = _levels(body)

    def container(self, start: int, depth: int) -> tuple[Any, int]:
        """The array or object whose bracket is at `start`, and the position behind it."""
        if depth > MAX_DEPTH:
            raise RecursionError
        opening = self._body[start : start + 1]
        found: Any = [] if opening == b"[" else {}
        add = found.extend if opening == b"[" else found.update
        at, level = start + 1, int(self._levels[start])
        while True:
            deadlines.check()
            end, closed = self._run(at, level, PIECE_NBYTES)
            if end is None:
                part, at = self._large(opening, at, level, depth)
                add(part)
                at = _after_blanks(self._body, at)
                end, closed = at, self._body[at : at + 1] != b","
            elif self._body[at:end].strip() or not (closed and at == start + 1):
                add(self._parsed(opening, at, end))
            if closed:
                if self._body[end : end + 1] != _CLOSING[opening]:
                    raise _error("Expecting ',' delimiter", self._body, end)
                return found, end + 1
            at = end + 1

    def _run(self, at: int, level: int, width: int) -> tuple[int | None, bool]:
        """Where complete values from `at` on end, within `width`: at the container's end (True), or at a
        comma. None: the first value is longer."""
        levels = self._levels[at : at + width]
        if (ends := levels < level).any():
            return at + int(ends.argmax()), True
        commas = np.flatnonzero((levels == level) & (self._bytes[at : at + width] == _COMMA))
        return (at + int(commas[-1]), False) if commas.size else (None, False)

    def _large(self, opening: bytes, at: int, level: int, depth: int) -> tuple[Any, int]:
        """The long value at `at`, as a list or dict of one, and the position behind it."""
        begins = at if opening == b"[" else self._colon(at, level) + 1
        begins = _after_blanks(self._body, begins)
        if self._body[begins : begins + 1] not in _CLOSING:
            end = self._end_of_scalar(at, level)
            return self._parsed(opening, at, end), end
        value, end = self.container(begins, depth + 1)
        if opening == b"[":
            return [value], end
        key = self._parsed(opening, at, begins, b"0")
        return dict.fromkeys(key, value), end

    def _colon(self, at: int, level: int) -> int:
        found = self._first(at, level, _COLON)
        if found is None:
            raise _error("Expecting ':' delimiter", self._body, at)
        return found

    def _end_of_scalar(self, at: int, level: int) -> int:
        width = PIECE_NBYTES
        while at + width < len(self._body):
            width *= 4
            if (end := self._run(at, level, width)[0]) is not None:
                first = self._first(at, level, _COMMA)
                return end if first is None else min(end, first)
        raise _error("Expecting ',' delimiter", self._body, len(self._body))

    def _first(self, at: int, level: int, byte: int) -> int | None:
        """The first such byte that belongs to the container itself."""
        for start in range(at, len(self._body), _BLOCK_NBYTES):
            part = slice(start, start + _BLOCK_NBYTES)
            fits = (self._bytes[part] == byte) & (self._levels[part] == level)
            if fits.any():
                return start + int(fits.argmax())
        return None

    def _parsed(self, opening: bytes, at: int, end: int, more: bytes = b"") -> Any:
        """The values from `at` to `end` as a container of their own."""
        part = self._body[at:end]
        if not part.strip():
            raise _error("Expecting value", self._body, end)
        text = (opening + part + more + _CLOSING[opening]).decode("utf-8", "surrogatepass")
        try:
            return json.loads(text)
        except json.JSONDecodeError as error:
            before = len(text[: error.pos].encode("utf-8", "surrogatepass")) - 1
            raise _error(error.msg, self._body, min(at + before, len(self._body))) from None


def _levels(body: bytes) -> NDArray[np.int16]:
    """How many containers are open at each byte, a bracket's own counted from itself on; _IN_STRING inside
    of strings. NumPy lets other threads run meanwhile."""
    levels = np.empty(len(body), np.int16)
    open_before = inside = 0
    for start, plain in _unescaped(body):
        strings = ((np.cumsum(plain == _QUOTE, dtype=np.int32) + inside) & 1).astype(bool)
        kinds = plain & 0xDF  # [ and {, ] and } differ in this bit only
        steps = (kinds == ord("[")).astype(np.int8) - (kinds == ord("]"))
        steps[strings] = 0
        level = np.cumsum(steps, dtype=np.int32) + open_before
        if level.max() > _DEEPEST:
            raise RecursionError
        open_before, inside = int(level[-1]), int(strings[-1])
        level[strings] = _IN_STRING
        levels[start : start + len(plain)] = level.clip(min=-1)
    return levels


def longest_string(body: bytes) -> int:
    """Bytes of the longest text in quotes."""
    longest, opened = 0, np.empty(0, np.intp)
    for start, plain in _unescaped(body):
        quotes = np.concatenate([opened, np.flatnonzero(plain == _QUOTE) + start])
        pairs = len(quotes) // 2 * 2
        longest = max(longest, int(np.diff(quotes[:pairs])[::2].max(initial=1)) - 1)
        opened = quotes[pairs:]
    return max(longest, len(body) - int(opened[0]) - 1) if opened.size else longest


def _unescaped(body: bytes) -> Iterator[tuple[int, NDArray[np.uint8]]]:
    """Blocks of the body with their positions, without backslashes and the quotes behind them."""
    start = 0
    while start < len(body):
        deadlines.check()
        block = body[start : start + _BLOCK_NBYTES]
        if (len(block) - len(block.rstrip(b"\\"))) % 2:  # what follows is escaped
            block = body[start : start + len(block) + 1]
        plain = block.replace(rb"\\", b"..").replace(rb"\"", b"..")
        yield start, np.frombuffer(plain, np.uint8)
        start += len(block)


def _after_blanks(body: bytes, at: int) -> int:
    found = _BLANK.match(body, at)
    return at if found is None else found.end()


def _error(reason: str, body: bytes, at: int) -> json.JSONDecodeError:
    before = body[:at].decode("utf-8", "replace")
    return json.JSONDecodeError(reason, before, len(before))
