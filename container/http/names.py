"""Model names: which are allowed, and how they are decoded from a path (exactly once)."""

import re
from urllib.parse import unquote_to_bytes

from model_handler.errors import InvalidRequest

MAX_CHARS = 255
_PLAIN = re.compile(rb"[A-Za-z0-9_-][A-Za-z0-9._-]{0,254}")
# Separators of paths and lines, control characters, halves of surrogate pairs.
_FORBIDDEN = re.compile("[/\\\\\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")
_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\ud800-\udfff]")
_BROKEN_ESCAPE = re.compile(rb"%(?![0-9A-Fa-f]{2})")


def check(name: str) -> str:
    """The name itself. Raises InvalidRequest."""
    if not name:
        raise InvalidRequest("the model name is empty")
    if len(name) > MAX_CHARS:
        raise InvalidRequest(f"a model name has at most {MAX_CHARS} characters, not {len(name)}")
    if name in (".", ".."):
        raise InvalidRequest(f"{name!r} is not allowed as a model name")
    if _FORBIDDEN.search(name):
        raise InvalidRequest(
            "a model name must not contain a slash, a backslash or a control character"
        )
    return name


def from_segment(segment: bytes) -> str:
    """The name in one segment of a raw path. Raises InvalidRequest."""
    if _PLAIN.fullmatch(segment):
        return segment.decode("ascii")
    if _BROKEN_ESCAPE.search(segment):
        raise InvalidRequest("the path has a % that is not followed by two hexadecimal digits")
    try:
        return check(unquote_to_bytes(segment).decode("utf-8"))
    except UnicodeDecodeError:
        raise InvalidRequest("the model name in the path is not UTF-8") from None


def is_text(value: str) -> bool:
    """Whether a string has no control character and could be written as UTF-8."""
    return not _CONTROL.search(value)
