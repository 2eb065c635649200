"""The engine's errors for what models and libraries raise: one line each, which quotes no request."""

import logging
import re
from collections.abc import Callable

from model_handler.device.device import is_out_of_memory
from model_handler.errors import (
    EngineError,
    InsufficientMemory,
    InvalidRequest,
    ModelLoadFailed,
)
from model_handler.messages import Refusal

log = logging.getLogger(__name__)
_TRACEBACK = re.compile(r"Traceback[^\n]{0,60}\(most recent call last\)")
_TORCHSCRIPT = "TorchScript interpreter"
_MESSAGE_LENGTH = 500
# Bytes of a request body that are compared with an error message
_SEARCHED = 200_000


def refusal(
    error: BaseException, otherwise: Callable[[str], EngineError], *bodies: bytes
) -> EngineError:
    """The engine's error for any exception, without its traceback. Exceptions that are no EngineErrors are
    logged with their traceback."""
    if isinstance(error, EngineError):
        return type(error)(*error.args)
    level = logging.INFO if otherwise is InvalidRequest else logging.ERROR
    log.log(level, "request failed", exc_info=error)
    if is_out_of_memory(error):
        return InsufficientMemory("one request alone needs more memory than the device has left")
    text = said(error)
    if any(quotes(text, body) for body in bodies):
        text = f"{type(error).__name__}: the message quotes the request and is withheld"
    return otherwise(text)


def said(error: BaseException) -> str:
    """Class and message of any exception, on one line."""
    kind = type(error).__name__
    try:
        return one_line(f"{kind}: {error}")
    except BaseException:  # noqa: BLE001  its own text raises
        return kind


def one_line(text: str) -> str:
    """The message on one line that can be encoded, without the traceback that some libraries append; the log
    has it. TorchScript's own message follows the traceback."""
    message, *traceback = _TRACEBACK.split(text, maxsplit=1)
    if _TORCHSCRIPT in message and traceback:
        message += traceback[0].strip().rpartition("\n")[2]
    line = " ".join(message.split())[:_MESSAGE_LENGTH]
    return line.encode("utf-8", "replace").decode()


def quotes(text: str, body: bytes, width: int = 24) -> bool:
    """True if about `width` consecutive characters of the message also occur in the body."""
    source = " ".join(body[:_SEARCHED].decode("utf-8", "replace").split())
    return any(text[at : at + width] in source for at in range(0, len(text) - width + 1, 4))


def load_refusal(error: BaseException) -> Refusal:
    """The report of a load that failed; an unexpected error is logged."""
    if not isinstance(error, EngineError):
        log.error("load failed", exc_info=error)
        error = ModelLoadFailed(said(error))
    return Refusal(type(error).__name__, one_line(str(error)))
