"""`handler.py` with `class EndpointHandler`, as on Hugging Face's Inference Endpoints."""

import json
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy
import torch

from model_handler import codecs
from model_handler.errors import ModelLoadFailed
from model_handler.messages import InferenceRequest, InferenceResponse
from model_handler.scripted import InputRefused
from model_handler.scripted.inference import JSON, decode_document


class EndpointHandlerScript:
    def __init__(self, module: ModuleType, root: Path) -> None:
        """Raises ModelLoadFailed without the class, and what its `__init__` raises."""
        handler = getattr(module, "EndpointHandler", None)
        if handler is None:
            raise ModelLoadFailed("handler.py has no class EndpointHandler")
        self._handler = handler(str(root))

    def __call__(self, request: InferenceRequest) -> InferenceResponse:
        codecs.check_accept(request.accept)
        try:
            data = decode_document(request.body, request.content_type or JSON)
        except Exception as error:  # whatever it was: the request could not be read
            raise InputRefused from error
        answer = self._handler(data)
        if isinstance(answer, bytes):
            accept = request.accept or "*/*"
            return InferenceResponse(
                answer, "application/octet-stream" if "*" in accept else accept
            )
        body, content_type = codecs.encode(_plain(answer), request.accept)
        return InferenceResponse(body, content_type)


def _plain(answer: Any) -> Any:
    """Arrays and tensors as lists, also inside of lists and dictionaries."""
    if isinstance(answer, torch.Tensor):
        return answer.detach().cpu().tolist()
    if isinstance(answer, numpy.ndarray | numpy.generic):
        return answer.tolist()
    if isinstance(answer, dict):
        return {str(key): _plain(value) for key, value in answer.items()}
    if isinstance(answer, list | tuple):
        return [_plain(value) for value in answer]
    if answer is None or isinstance(answer, str | int | float | bool):
        return answer
    return json.loads(json.dumps(answer, default=str))
