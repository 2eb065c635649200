"""What a refusal by a limit looks like."""

import time
from typing import Any

from model_handler.handlers.pipeline import PipelineHandler
from tests.model_handler.harness import refusal

SECONDS = 2.0  # CPU time of a refusal, at most


def refused(handler: PipelineHandler, document: Any) -> str:
    """The message of the refusal as an invalid request, which took little time."""
    began = time.thread_time()
    result = refusal(handler, document)
    assert time.thread_time() - began < SECONDS
    assert result.error in ("InvalidRequest", "UnsupportedContentType"), result
    return result.message
