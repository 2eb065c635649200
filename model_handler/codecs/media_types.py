"""Parse Content-Type, and choose the media type of an answer by Accept."""

import functools
from email.message import Message

from model_handler.errors import InvalidRequest, UnacceptableAccept, UnsupportedContentType

JSON = "application/json"
CSV = "text/csv"
PLAIN = "text/plain"
OCTETS = "application/octet-stream"


@functools.lru_cache(
    maxsize=256
)  # callers send few distinct values, and the server bounds their length
def parse(header: str) -> tuple[str, str | None]:
    """Media type, in lower case, and charset of a Content-Type; None where it names no charset."""
    message = Message()
    message["Content-Type"] = " ".join(header.split())
    media = header.partition(";")[0].strip().lower()
    charset = message.get_param("charset")
    return media, charset.strip() if isinstance(charset, str) and charset.strip() else None


def text(body: bytes, charset: str | None) -> str:
    """Decode `body`, by default as UTF-8.

    Raises UnsupportedContentType for an unknown charset, InvalidRequest for a body not encoded in it.
    """
    try:
        return body.decode(charset or "utf-8")
    except LookupError:
        raise UnsupportedContentType(f"unknown charset {str(charset)[:40]!r}") from None
    except ValueError:
        raise InvalidRequest(f"the body is not text in {(charset or 'utf-8')[:40]}") from None


@functools.lru_cache(maxsize=256)
def choose(accept: str | None, offered: tuple[str, ...]) -> str:
    """The offered media type with the highest quality, the first of equals.

    Raises UnacceptableAccept if `accept` allows none of them.
    """
    ranges = [_range(item) for item in (accept or "").split(",") if item.strip()]
    if not ranges:
        return offered[0]
    weights = {media: _weight(media, ranges) for media in offered}
    best = max(weights, key=lambda media: weights[media])
    if weights[best] <= 0:
        forms = " or ".join(offered)
        raise UnacceptableAccept(f"answers come as {forms}, not as {str(accept)[:80]}")
    return best


def _range(item: str) -> tuple[str, float]:
    media, *parameters = (part.strip().lower() for part in item.split(";"))
    quality = next((part[2:] for part in parameters if part.startswith("q=")), "1")
    try:
        weight = float(quality)
    except ValueError:
        weight = 0.0
    return media, weight if 0 <= weight <= 1 else 0.0  # also of NaN


def _weight(media: str, ranges: list[tuple[str, float]]) -> float:
    """The quality of the most specific range that covers `media` (RFC 9110 §12.5.1)."""
    for pattern in (media, f"{media.partition('/')[0]}/*", "*/*"):
        for name, quality in ranges:
            if name == pattern:
                return quality
    return 0.0
