"""Converts errors that libraries raise in a load to errors of the engine."""

import logging

from model_handler.device.device import is_out_of_memory
from model_handler.errors import EngineError, InsufficientMemory, ModelLoadFailed

log = logging.getLogger(__name__)


def failure(error: Exception) -> EngineError:
    """The EngineError for `error`, without traceback. Its message is the first line of the original one."""
    if isinstance(error, EngineError):
        return type(error)(*error.args)
    log.warning("load failed", exc_info=error)
    if is_out_of_memory(error):
        return InsufficientMemory("the model does not fit into the memory that is left")
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    text = lines[0] if lines else "no reason given"
    return ModelLoadFailed(f"{type(error).__name__}: {text}"[:500])
