"""Asks a model that was opened for the first time, so that what ends or blocks its process does it here.

Ordinary errors of the model are no finding: its requests would get them, and it may answer others.
"""

import contextlib
import json
import math
import time
from collections.abc import Callable, Sequence
from typing import Any

from transformers import PreTrainedTokenizerBase

from model_handler.device.device import Device
from model_handler.errors import InsufficientMemory
from model_handler.handlers import Handler
from model_handler.handlers.boosters import Booster
from model_handler.handlers.estimators import Estimator
from model_handler.handlers.onnx_graphs import OnnxGraph
from model_handler.handlers.pipeline import PipelineHandler
from model_handler.handlers.signatures import Input
from model_handler.handlers.tensors import ArrayHandler, ArrayModel
from model_handler.messages import InferenceRequest
from model_handler.worker import warmup
from model_handler.worker.forward import finish, forward, prepare

# Repeated characters show patterns that backtrack; common letters show normalizers that let a text grow
_RUN = 40
_TEXT = (
    "the quick brown fox jumps over 13 lazy dogs, "
    f"{'a' * _RUN}! {'x' * _RUN} {'0' * _RUN}! {'.' * _RUN}{' ' * _RUN}{'/' * _RUN}\n"
)
_CHAT = [{"role": "user", "content": "warm"}]
_VALUES = (0, 1e6, -1e6)  # one row of each: trees take different branches
MAX_CELLS = 1 << 20


def run(handler: Handler, device: Device, *, computes: bool) -> None:
    """Raises InsufficientMemory, and whatever a library raises that is no Exception.

    `computes`: False for a model whose forward would take too long; it only prepares a request.
    """
    if isinstance(handler, PipelineHandler):
        for each in handler.processors:
            _tokenize(each)
    asked = _request(handler)
    if asked is None:
        return
    batch = prepare(handler, [asked])
    if computes:
        forward(batch, device, time.monotonic() + warmup.LIMIT_S)
        finish(batch)
    if isinstance(batch.slots[0].error, InsufficientMemory):
        raise InsufficientMemory("one small request needs more memory")


def _tokenize(tokenizer: object) -> None:
    if not isinstance(tokenizer, PreTrainedTokenizerBase):
        return
    _attempt(lambda: tokenizer(_TEXT))
    if getattr(tokenizer, "chat_template", None):
        _attempt(lambda: tokenizer.apply_chat_template(_CHAT, tokenize=False))


def _attempt(call: Callable[[], object]) -> None:
    """Ordinary errors are no finding: see above."""
    exhausted = False
    with contextlib.suppress(Exception):
        try:
            call()
        except MemoryError:
            exhausted = True
    if exhausted:
        raise InsufficientMemory("one small request needs more memory")


def _request(handler: Handler) -> InferenceRequest | None:
    if not isinstance(handler, ArrayHandler):
        return warmup.request(handler)
    inputs = _arrays(handler.model)
    if inputs is None:
        return None
    return InferenceRequest(json.dumps({"inputs": inputs}).encode(), "application/json")


def _arrays(model: ArrayModel) -> Any:
    """Inputs of the declared shapes; None where the shapes are not known, or too large."""
    if isinstance(model, Booster | Estimator):
        columns = model.columns or 0
        return [[value] * columns for value in _VALUES] if 0 < columns <= MAX_CELLS else None
    if not isinstance(model, OnnxGraph) or sum(map(_cells, model.inputs)) > MAX_CELLS:
        return None
    return {each.name: _filled(_shape(each), _element(each)) for each in model.inputs}


def _shape(declared: Input) -> list[int]:
    sizes = declared.shape or ()
    return [size if isinstance(size, int) and size > 0 else 1 for size in sizes]


def _cells(declared: Input) -> int:
    return math.prod(_shape(declared))


def _element(declared: Input) -> object:
    return "a" if declared.dtype is not None and declared.dtype.kind == "O" else 0


def _filled(shape: Sequence[int], element: object) -> Any:
    if not shape:
        return element
    return [_filled(shape[1:], element) for _ in range(shape[0])]
