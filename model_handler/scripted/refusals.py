"""Turn exceptions of an artifact's code into refusals, with the code's own status and message if it has one.

The traceback goes to the log. The caller gets one line, which never quotes the request.
"""

import logging
import sys

from model_handler.device.device import is_out_of_memory
from model_handler.errors import (
    EngineError,
    HandlerRefusal,
    InferenceFailed,
    InsufficientMemory,
    InvalidRequest,
    ModelLoadFailed,
    UnsupportedContentType,
)
from model_handler.messages import Refusal
from model_handler.scripted import InputRefused
from model_handler.worker import request_errors

log = logging.getLogger(__name__)
# Bugs in the code, also if raised while it reads the request
_MISTAKES = (ImportError, NameError)


def cause(error: BaseException) -> BaseException:
    """The exception that the code raised."""
    return (error.__cause__ or error) if isinstance(error, InputRefused) else error


def of_load(error: BaseException) -> Refusal:
    if isinstance(error, EngineError):
        return named(error)
    log.warning("load failed", exc_info=error)
    if is_out_of_memory(error):
        return named(InsufficientMemory("the model's code ran out of memory while it loaded"))
    return named(ModelLoadFailed(request_errors.said(error)))


def of_request(error: BaseException, body: bytes) -> Refusal:
    raised = cause(error)
    if isinstance(raised, EngineError):
        return named(raised)
    log.warning("request failed", exc_info=raised)
    if is_out_of_memory(raised):
        return named(InsufficientMemory("the model's code ran out of memory"))
    if is_unsupported_format(raised):
        return named(UnsupportedContentType("the model's code does not read this content type"))
    status = _status(raised)
    text = request_errors.said(raised) if status is None else _words(raised)
    if request_errors.quotes(text, body):
        text = f"{type(raised).__name__}: the message quotes the request and is withheld"
    if status is not None:
        return Refusal(HandlerRefusal.__name__, text, status)
    unreadable = isinstance(error, InputRefused) and not isinstance(raised, _MISTAKES)
    return named((InvalidRequest if unreadable else InferenceFailed)(text))


def named(error: EngineError) -> Refusal:
    return Refusal(type(error).__name__, _encodable(str(error)), getattr(error, "status", None))


def is_unsupported_format(error: BaseException) -> bool:
    """Whether it is sagemaker-inference's error, checked without importing that package."""
    errors = sys.modules.get("sagemaker_inference.errors")
    return errors is not None and isinstance(error, errors.UnsupportedFormatError)


def _status(error: BaseException) -> int | None:
    """The error's HTTP status, or None. `error_code` is multi-model-server's name for it."""
    for name in ("status_code", "error_code"):
        status = getattr(error, name, None)
        if isinstance(status, int) and 400 <= status <= 599:
            return int(status)
    return None


def _words(error: BaseException) -> str:
    """The message of an error with a status. The toolkit's errors hold it in an attribute."""
    for name in ("message", "detail"):
        words = getattr(error, name, None)
        if isinstance(words, str) and words.strip():
            return _encodable(request_errors.one_line(words))
    return request_errors.said(error)


def _encodable(text: str) -> str:
    """`text` without lone surrogates, which JSON may contain but UTF-8 cannot encode."""
    return text.encode("utf-8", "replace").decode()
