"""Read the JSON files of artifacts within limits, which are checked before a value is built.

A parser needs up to fifty times the memory of its text, and builds a small list in as long as a long string:
size, nesting and number of values are limited each.
"""

import json
import os
import re
import stat
from pathlib import Path
from typing import Any

import msgspec

from model_handler.errors import ModelLoadFailed

CONFIG_NBYTES = 4 << 20  # 22,000 labels in both directions take 2.5 MB
CONFIG_VALUES = 200_000  # commas, and separately brackets: half as many labels in both directions
TABLE_NBYTES = 64 << 20  # vocabularies: the largest of public models have 35 MB
TABLE_VALUES = 4_000_000
DEPTH = 64
_STRING = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*"', re.DOTALL)
_BRACKETS = bytes.maketrans(b"{}", b"[]")
_OTHER = bytes(set(range(256)) - set(b"[]{}"))


def octets(file: Path, limit: int) -> bytes:
    """The content of a regular file of at most `limit` bytes. Raises ModelLoadFailed, and OSError."""
    # Without O_NONBLOCK, opening a FIFO would wait until somebody writes to it
    descriptor = os.open(file, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    with os.fdopen(descriptor, "rb") as stream:
        found = os.fstat(descriptor)
        if not stat.S_ISREG(found.st_mode):
            raise ModelLoadFailed(f"{file.name} is not a regular file")
        content = stream.read(limit + 1) if found.st_size <= limit else b""
    if found.st_size > limit or len(content) > limit:
        raise ModelLoadFailed(f"{file.name} is larger than {limit} bytes, the limit for such files")
    return content


def read(file: Path, limit: int = CONFIG_NBYTES) -> dict[str, Any]:
    """The JSON object in a file. Raises ModelLoadFailed, and OSError."""
    return parsed(octets(file, limit), file.name)


def parsed(text: bytes, name: str) -> dict[str, Any]:
    """`name`: of the file, for the error. Raises ModelLoadFailed."""
    check(text, name)
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ModelLoadFailed(f"{name} is not JSON: {_brief(error)}") from error
    if not isinstance(value, dict):
        raise ModelLoadFailed(f"{name} is not a JSON object")
    return value


def check(text: bytes, name: str, values: int = CONFIG_VALUES) -> None:
    """Raises ModelLoadFailed if JSON is nested too deeply or has too many values."""
    brackets = text.count(b"[") + text.count(b"{")
    if brackets > values or text.count(b",") > values:
        raise ModelLoadFailed(f"{name} has more than {values} values, the limit for such files")
    if brackets > DEPTH and (_recurses(text) or (values <= CONFIG_VALUES and _is_deep(text))):
        raise ModelLoadFailed(f"{name} is nested too deeply: at most {DEPTH} levels are read")


def check_table(file: Path) -> None:
    """Check a file with a vocabulary before a library reads it. Raises ModelLoadFailed, and OSError."""
    check(octets(file, TABLE_NBYTES), file.name, TABLE_VALUES)


def _recurses(text: bytes) -> bool:
    """Whether the text is nested beyond the interpreter's recursion limit. No values are built."""
    try:
        msgspec.json.decode(text, type=msgspec.Raw)
    except RecursionError:
        return True
    except msgspec.DecodeError:
        return False  # the parser that reads it says what is wrong, or accepts it: NaN
    return False


def _is_deep(text: bytes) -> bool:
    """Whether brackets are nested deeper than DEPTH: each pass removes the innermost pairs."""
    nested = _STRING.sub(b"", text).translate(_BRACKETS, _OTHER)
    for _ in range(DEPTH):
        nested, before = nested.replace(b"[]", b""), len(nested)
        if len(nested) == before:
            break
    return len(nested) > DEPTH or b"[]" in nested


def _brief(error: Exception) -> str:
    return str(error)[:200]
