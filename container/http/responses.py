"""Answers as HTTP: the table from errors to statuses, and the bytes of a response.

Invariant: an error body is one JSON line of at most 2000 bytes, because the platform passes it to the caller
in a field of 2048 characters.
"""

import re
from http import HTTPStatus

import msgspec

from container.http import error_replies
from model_handler import errors, response_headers
from model_handler.messages import InferenceResponse
from model_handler.model import ModelInfo

MAX_ERROR_NBYTES = 2000
JSON = b"application/json"
PROMETHEUS = b"text/plain; version=0.0.4; charset=utf-8"
CUSTOM_ATTRIBUTES = b"x-amzn-sagemaker-custom-attributes"
UNKNOWN = (500, "InternalServerException")

STATUSES: dict[type[Exception], tuple[int, str]] = {
    errors.EngineError: UNKNOWN,
    errors.InvalidRequest: (400, "InvalidRequestException"),
    errors.UnsupportedContentType: (415, "UnsupportedMediaTypeException"),
    errors.UnacceptableAccept: (406, "NotAcceptableException"),
    errors.NotFound: (404, "ResourceNotFoundException"),
    errors.ModelNotFound: (404, "ModelNotFoundException"),
    errors.ArtifactNotFound: (404, "ArtifactNotFoundException"),
    errors.ModelAlreadyLoaded: (409, "ModelAlreadyLoadedException"),
    errors.InsufficientMemory: (507, "InsufficientMemoryException"),
    errors.ModelLoadFailed: (500, "ModelLoadException"),
    errors.InferenceFailed: (500, "InferenceException"),
    errors.HandlerRefusal: (500, "InferenceException"),  # unless it has a status of its own
    errors.DeadlineExceeded: (504, "DeadlineExceededException"),
    errors.Unavailable: (503, "ServiceUnavailableException"),
    errors.QueueFull: (503, "ServiceUnavailableException"),
    errors.Draining: (503, "ServiceUnavailableException"),
    errors.ModelUnloading: (503, "ServiceUnavailableException"),
    errors.WorkerDied: (503, "ServiceUnavailableException"),
    error_replies.RouteNotFound: (404, "ResourceNotFoundException"),
    error_replies.MethodNotAllowed: (405, "MethodNotAllowedException"),
    error_replies.MalformedRequest: (400, "InvalidRequestException"),
    error_replies.ForeignPeer: (403, "AccessDeniedException"),
    error_replies.HeadTooLarge: (431, "RequestHeaderFieldsTooLargeException"),
    error_replies.HeadTimeout: (408, "RequestTimeoutException"),
    error_replies.BodyTooLarge: (413, "RequestEntityTooLargeException"),
    error_replies.BodyTimeout: (408, "RequestTimeoutException"),
}
# After these the connection is closed: the rest of the request is still arriving, or its end is unknown.
CLOSING = (
    error_replies.MalformedRequest,
    error_replies.ForeignPeer,
    error_replies.HeadTooLarge,
    error_replies.HeadTimeout,
    error_replies.BodyTooLarge,
    error_replies.BodyTimeout,
)

_PHRASES = {status.value: status.phrase for status in HTTPStatus}
_STATUS_LINES = {  # all of them: a model's code may choose one
    status: f"HTTP/1.1 {status} {_PHRASES.get(status, '')}\r\n".encode()
    for status in range(200, 600)
}
_COMMON_TYPES = {text: text.encode() for text in ("application/json", "text/csv", "text/plain")}
_START = b"%b%bcontent-type: %b\r\ncontent-length: %d\r\n"
_json = msgspec.json.Encoder()
_LINE_BREAKERS = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]+")
_HEADER_NAME = re.compile("[!#$%&'*+.^_`|~0-9a-z-]+")  # RFC 9110, 5.6.2
_FRAMING = ("connection", "content-length", "content-type", "transfer-encoding")
_NOT_A_HEADER = re.compile("[^\t\x20-\x7e\x80-\xff]")  # allowed: latin-1 without control characters


class Response(msgspec.Struct, frozen=True):
    """`close`: close the connection after it. `error`: the error's class name, for the log."""

    status: int
    body: bytes
    content_type: bytes = JSON
    headers: tuple[tuple[bytes, bytes], ...] = ()
    close: bool = False
    error: str | None = None


def json(document: object, status: int = 200) -> Response:
    return Response(status, _json.encode(document))


def description(model: ModelInfo) -> dict[str, str]:
    """A model as JSON, in the names of the SageMaker contract."""
    return {"modelName": model.name, "modelUrl": model.url}


def exposition(text: bytes) -> Response:
    return Response(200, text, PROMETHEUS)


def answer(response: InferenceResponse) -> Response:
    """A model's answer. Raises InferenceFailed for too many headers, and for values that are not allowed."""
    common = _COMMON_TYPES.get(response.content_type)
    if common is not None and not response.headers and response.custom_attributes is None:
        return Response(200, response.body, common)
    if limit := response_headers.excess(
        response.content_type, response.custom_attributes, response.headers
    ):
        raise errors.InferenceFailed(f"the model set {limit}")
    headers = [_own_header(header) for header in response.headers] if response.headers else []
    if response.custom_attributes is not None:
        value = _header("custom attributes", response.custom_attributes)
        headers.append((CUSTOM_ATTRIBUTES, value))
    content_type = common or _header("content type", response.content_type)
    return Response(200, response.body, content_type, tuple(headers))


def _own_header(header: tuple[str, str]) -> tuple[bytes, bytes]:
    """A header set by the artifact's code. Raises InferenceFailed for headers that frame the message."""
    name, value = header[0].lower(), header[1]
    if not _HEADER_NAME.fullmatch(name) or name in _FRAMING:
        raise errors.InferenceFailed("the model set a header that cannot be sent")
    return name.encode("ascii"), _header("header", value)


def _header(what: str, value: str) -> bytes:
    if _NOT_A_HEADER.search(value):
        raise errors.InferenceFailed(f"the model's {what} cannot be sent as an HTTP header")
    return value.encode("latin-1")


def error(error: Exception) -> Response:
    """The answer to an error that may be shown to the caller."""
    status, kind = STATUSES.get(type(error), UNKNOWN)
    if isinstance(error, errors.HandlerRefusal):
        status = error.status
    headers: tuple[tuple[bytes, bytes], ...] = ()
    if status == 503:
        headers = ((b"retry-after", b"1"),)
    if isinstance(error, error_replies.MethodNotAllowed):
        headers = ((b"allow", error.allow.encode("ascii")),)
    return Response(
        status,
        _error_body(status, kind, str(error)),
        headers=headers,
        close=isinstance(error, CLOSING),
        error=type(error).__name__,
    )


def internal(error: BaseException) -> Response:
    """The answer to an unexpected exception, without its text: details are in the log."""
    status, kind = UNKNOWN
    body = _error_body(status, kind, "internal error")
    return Response(status, body, error=type(error).__name__)


def _error_body(status: int, kind: str, message: str) -> bytes:
    line = _LINE_BREAKERS.sub(" ", message).strip()[:MAX_ERROR_NBYTES]
    while len(body := _encode_error(status, kind, line)) > MAX_ERROR_NBYTES:
        # A character has at most six bytes in JSON, so this never removes more than necessary.
        line = line[: -((len(body) - MAX_ERROR_NBYTES + 5) // 6)]
    return body


def _encode_error(status: int, kind: str, message: str) -> bytes:
    return _json.encode({"code": status, "type": kind, "message": message})


def render(response: Response, defaults: bytes, *, close: bool, head: bool) -> bytes:
    """The message as it is sent. `defaults`: header lines of every answer; `head`: without the body."""
    parts = [
        _START
        % (_STATUS_LINES[response.status], defaults, response.content_type, len(response.body))
    ]
    for name, value in response.headers:
        parts.append(b"%b: %b\r\n" % (name, value))
    parts.append(b"connection: close\r\n\r\n" if close else b"\r\n")
    if not head:
        parts.append(response.body)
    return b"".join(parts)
