"""Bounds of an answer's headers: checked in the process of the code that sets them, and again in the front,
which does not rely on that process."""

from collections.abc import Sequence

MAX_HEADERS = 64
MAX_NBYTES = 16 << 10  # of all names and values, content type and custom attributes included


def excess(
    content_type: str, custom_attributes: str | None, headers: Sequence[tuple[str, str]]
) -> str | None:
    """One line that names the limit that the headers exceed, or None."""
    if len(headers) > MAX_HEADERS:
        return f"{len(headers)} response headers, more than the limit of {MAX_HEADERS}"
    nchars = len(content_type) + len(custom_attributes or "")
    nchars += sum(len(name) + len(value) for name, value in headers)
    if nchars > MAX_NBYTES:  # each character is one byte of latin-1
        return f"response headers of {nchars} bytes, more than the limit of {MAX_NBYTES}"
    return None
