"""Decode requests and encode answers in the formats of the Hugging Face inference toolkit.

Invariant: nothing here executes what it reads: no pickle, no NumPy object arrays.
"""

import base64
import csv
import datetime
import io
import json
import threading
from collections.abc import Iterator
from functools import partial
from typing import Any

from PIL import Image

from model_handler.artifacts.tasks import InputKind
from model_handler.budgets import deadlines
from model_handler.budgets.limits import EXPANSION, check
from model_handler.codecs import large_json, media_types
from model_handler.codecs.media_types import CSV, JSON, OCTETS, PLAIN
from model_handler.errors import (
    InferenceFailed,
    InvalidRequest,
    UnacceptableAccept,
    UnsupportedContentType,
)
from model_handler.handlers import Payload
from model_handler.handlers.media import RawBody
from model_handler.messages import InferenceRequest
from model_handler.options import RequestLimits

_KINDS = {
    OCTETS: None,
    "application/x-image": InputKind.IMAGE,
    "application/x-audio": InputKind.AUDIO,
}
_DEFAULTS = RequestLimits()
_SINGLE = frozenset({bool, float, int, str, type(None)})
_PART = 1024  # values of an answer that are written at a time
_CSV_COLUMNS = ("question", "context", "inputs")

# The csv module's limit is 128 KiB per field, too little for a long document; the server bounds the body
csv.field_size_limit(2**31 - 1)


# ---- requests ----


class ToolkitCodec:
    """The functions of this module, within the limits on the values of requests and answers."""

    def __init__(self, limits: RequestLimits) -> None:
        self.check_accept = check_accept
        self.decode = partial(decode, limits=limits)
        self.encode = partial(encode, limits=limits)


def decode(request: InferenceRequest, limits: RequestLimits = _DEFAULTS) -> Payload:
    """Decode a request. Images and audio stay bytes: the handler checks later whether its task takes them.

    Raises UnsupportedContentType for an unknown media type, InvalidRequest for a body that does not
    have the format of its media type.
    """
    if request.content_type is None or not request.content_type.strip():
        return _decode_unlabelled(request.body, limits)
    media, charset = media_types.parse(request.content_type)
    if media == JSON or media.endswith("+json"):
        return _decode_json(request.body, charset, limits)
    if media == CSV:
        check_values(request.body, limits)
        return _decode_csv(media_types.text(request.body, charset))
    if media == PLAIN:
        return Payload(media_types.text(request.body, charset))
    return Payload(RawBody(request.body, media, _kind_of(media)))


def check_values(body: bytes, limits: RequestLimits) -> None:
    """Raises InvalidRequest for JSON or CSV that may have more values than the limit: counts separators."""
    if len(body) <= limits.values:
        return
    count = sum(map(body.count, (b",", b"[", b"{", b":", b"\n")))
    check(limits, "values", count, "values in the body")


def _decode_unlabelled(body: bytes, limits: RequestLimits) -> Payload:
    """JSON if the body is valid JSON: clients on old SDKs send no Content-Type."""
    check_values(body, limits)
    try:
        return _decode_json(body, None, limits)
    except InvalidRequest:
        return Payload(RawBody(body, "body without a Content-Type that is not JSON", None))


def _decode_json(body: bytes, charset: str | None, limits: RequestLimits) -> Payload:
    if len(body) > limits.values:
        check_values(body, limits)
    document = parse_json(body, charset)
    if not isinstance(document, dict):
        return Payload(document)
    parameters = document.pop("parameters", None)
    if not isinstance(parameters, dict | None):
        raise InvalidRequest('"parameters" has to be an object')
    return Payload(document.pop("inputs", document), parameters or {})


def parse_json(body: bytes, charset: str | None) -> Any:
    """Raises InvalidRequest with the position and the reason."""
    try:
        if len(body) > large_json.LARGE_NBYTES and large_json.has_many_values(body):
            return large_json.loads(_utf8(body, charset))
        return json.loads(body if charset is None else media_types.text(body, charset))
    except RecursionError:
        raise InvalidRequest("the JSON body is nested too deeply") from None
    except ValueError as error:
        raise InvalidRequest(f"the body is not JSON: {_position(error)}") from None


def _utf8(body: bytes, charset: str | None) -> bytes:
    """As json.loads finds the encoding, without a byte order mark."""
    if charset is None:
        encoding = json.detect_encoding(body)
        if encoding == "utf-8":
            return body
        text = body.decode(encoding, "surrogatepass")
    else:
        text = media_types.text(body, charset)
        if text.startswith("\ufeff"):
            json.loads(text)  # raises
    return text.encode("utf-8", "surrogatepass")


def _position(error: ValueError) -> str:
    """Position and reason only: an error message must not quote the caller's data."""
    if isinstance(error, json.JSONDecodeError):
        return f"{error.msg} at line {error.lineno} column {error.colno}"
    return "it is not text in UTF-8" if isinstance(error, UnicodeDecodeError) else "bad number"


def _decode_csv(text: str) -> Payload:
    """Rows under a header that names `inputs`, or the columns of the task (`question` and `context`)."""
    header = text.partition("\n")[0].lower()
    if not any(column in header for column in _CSV_COLUMNS):
        raise InvalidRequest(
            "the CSV body needs a header with inputs, or with question and context"
        )
    try:
        rows = list(csv.DictReader(io.StringIO(text, newline=""), strict=True))
    except csv.Error as error:
        raise InvalidRequest(f"the body is not CSV: {error}") from None
    if not rows:
        raise InvalidRequest("the CSV body has a header and no rows")
    if any(None in row or None in row.values() for row in rows):
        raise InvalidRequest("the CSV body has rows of different lengths")
    return Payload([row["inputs"] for row in rows] if "inputs" in rows[0] else rows)


def _kind_of(media: str) -> InputKind | None:
    """The input kind of a binary media type; None for application/octet-stream, which may be any."""
    if media in _KINDS:
        return _KINDS[media]
    top = media.partition("/")[0]
    if top not in ("audio", "image"):
        raise UnsupportedContentType(
            f"no decoder for {media[:80]}; send application/json, text/plain, text/csv, or the media"
            " type of a picture or sound"
        )
    return InputKind(top)


# ---- answers ----


class _Room(threading.local):
    values: int = 0


_room = _Room()
"""`values`: of arrays that the answer being encoded may still have."""


def encode(answer: Any, accept: str | None, limits: RequestLimits = _DEFAULTS) -> tuple[bytes, str]:
    """The answer's bytes and media type.

    Raises UnacceptableAccept, also for CSV where the answer is not a table; InvalidRequest for arrays beyond
    the limit.
    """
    _room.values = limits.values * EXPANSION
    media = media_types.choose(accept, (JSON, CSV))
    return (_encode_csv(answer) if media == CSV else _encode_json(answer)), media


def check_accept(accept: str | None) -> None:
    """Raises UnacceptableAccept now rather than after the model has run."""
    media_types.choose(accept, (JSON, CSV))


def _encode_json(answer: Any) -> bytes:
    """Byte-identical to the toolkit: compact separators, no ASCII escapes, no NaN."""
    try:
        single = type(answer) is dict and _SINGLE.issuperset(map(type, answer.values()))
        if not single and _in_parts(answer):
            return "".join(_pieces(answer)).encode()
        return _JSON.encode(answer).encode()
    except (ValueError, TypeError, RecursionError) as error:
        raise InferenceFailed(f"the answer cannot be written as JSON: {error}") from error


def _in_parts(value: Any) -> bool:
    """Whether one call for all its values would hold up the process's other threads."""
    if isinstance(value, list):
        return len(value) > _PART or (bool(value) and isinstance(value[0], list))
    if isinstance(value, dict):
        return any(map(_in_parts, value.values()))
    return hasattr(value, "tolist") and getattr(value, "shape", ())[:1] > (0,)


def _pieces(value: Any) -> Iterator[str]:
    """The JSON of a value, part by part."""
    deadlines.check()
    if not _in_parts(value):
        yield _JSON.encode(value)
    elif isinstance(value, dict):
        separator = "{"
        for key, each in value.items():
            yield separator + _JSON.encode({key: 0})[1:-2]
            yield from _pieces(each)
            separator = ","
        yield "}"
    else:
        yield from _elements(value)
        yield "]"


def _elements(value: Any) -> Iterator[str]:
    """Of a list, array or tensor that is not empty, with the separators before them."""
    if len(getattr(value, "shape", ())) != 1 and isinstance(value[0], list | dict | type(value)):
        for at, each in enumerate(value):
            yield "," if at else "["
            yield from _pieces(each)
        return
    for at in range(0, len(value), _PART):
        part = value[at : at + _PART]
        yield ("," if at else "[") + _JSON.encode(part if isinstance(part, list) else _plain(part))[
            1:-1
        ]


def _encode_csv(answer: Any) -> bytes:
    rows = answer if isinstance(answer, list) else [answer]
    if not rows or not all(isinstance(row, dict) and row.keys() == rows[0].keys() for row in rows):
        raise UnacceptableAccept(f"this answer is not a table; ask for {JSON}")
    stream = io.StringIO(newline="")
    writer = csv.DictWriter(stream, rows[0].keys())
    writer.writeheader()
    writer.writerows(rows)
    return stream.getvalue().encode()


def _take_room(count: int) -> None:
    _room.values -= count
    if _room.values < 0:
        raise InvalidRequest(
            f"the answer has too many values for one request, at most {EXPANSION} times MME_MAX_VALUES"
        )


def _plain(value: Any) -> Any:
    """Convert values that json cannot write.

    NumPy and torch values are recognised by their `tolist` method, which avoids importing either.
    """
    deadlines.check()
    if hasattr(value, "tolist"):
        _take_room(getattr(value, "nbytes", 0) // getattr(value, "itemsize", 1))
        return value.tolist()
    if isinstance(value, datetime.datetime):
        return str(value)
    if isinstance(value, Image.Image):
        stream = io.BytesIO()
        value.save(stream, format="PNG")
        return base64.b64encode(stream.getvalue()).decode()
    raise TypeError(f"{type(value).__name__} has no form in JSON")


_JSON = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":"), default=_plain)
