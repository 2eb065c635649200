"""Warm-up: a first, small batch for a model that was just loaded, so that no request is a cold start.

The first forward initializes the device's libraries, loads kernels and reads weights into the page cache.
A warm-up that fails does not fail the load, unless memory ran out: later requests may still succeed.
"""

import base64
import io
import json
import logging
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from typing import Any

from PIL import Image

from model_handler.artifacts.tasks import InputKind, family, input_kind
from model_handler.device.device import Device
from model_handler.errors import InsufficientMemory
from model_handler.handlers import Handler
from model_handler.handlers.pipeline import PipelineHandler
from model_handler.messages import InferenceRequest, InferenceResponse, Refusal
from model_handler.worker.forward import finish, forward, prepare
from model_handler.worker.loaded_models import LoadedModel, Work

log = logging.getLogger(__name__)
LIMIT_S = 10.0
_TEXT = "warm"
_PIXELS = 64
_SOUND_S = 0.25
_ONE_TOKEN = {"max_new_tokens": 1, "min_length": 0, "num_beams": 1}
_Document = dict[str, Any]


def request(handler: Handler) -> InferenceRequest | None:
    """A small request for the model's task; None if no suitable request is known."""
    if not isinstance(handler, PipelineHandler):
        return None  # it takes arrays, and their shapes are not known
    document = _document(handler, family(handler.task))
    if document is None:
        return None
    return InferenceRequest(json.dumps(document).encode(), "application/json")


def answer(
    handler: Handler, asked: InferenceRequest, device: Device
) -> InferenceResponse | Refusal:
    """Run the request on the calling thread."""
    batch = prepare(handler, [asked])
    forward(batch, device, time.monotonic() + LIMIT_S)
    return finish(batch)[0]


def brief(
    loaded: LoadedModel, asked: InferenceRequest, start: Callable[[Work], None]
) -> "tuple[Iterator[None], Future[InferenceResponse | Refusal]]":
    """The steps that prepare the request and start its forward, and the answer to come."""
    answered: Future[InferenceResponse | Refusal] = Future()

    def done(work: Work) -> Iterator[None]:
        yield
        answered.set_result(finish(work.batch)[0])

    def begin() -> Iterator[None]:
        yield
        deadline = time.monotonic() + LIMIT_S
        start(Work(0, loaded, prepare(loaded.handler, [asked]), deadline, 0.0, done))

    return begin(), answered


def judge(result: InferenceResponse | Refusal) -> None:
    """Raises InsufficientMemory if the warm-up ran out of memory."""
    if not isinstance(result, Refusal):
        return
    if result.error == InsufficientMemory.__name__:
        raise InsufficientMemory("the model leaves no memory for its smallest batch")
    log.info("not warmed up", extra={"error": result.error, "reason": result.message})


def _document(handler: PipelineHandler, name: str) -> _Document | None:
    if name in _SPECIAL:
        return _SPECIAL[name](handler)
    kind = input_kind(handler.task)
    if kind is InputKind.IMAGE:
        return _labelled(name, {"inputs": _picture()})
    if kind is InputKind.AUDIO:
        return _labelled(name, {"inputs": _sound(handler)})
    return _labelled(name, {"inputs": _TEXT})


def _labelled(name: str, document: _Document) -> _Document:
    """Add the candidate labels that zero-shot tasks require."""
    labels = {"parameters": {"candidate_labels": [_TEXT]}} if name.startswith("zero-shot") else {}
    return document | labels


def _generating(handler: PipelineHandler) -> _Document:
    return {"inputs": _TEXT, "parameters": _ONE_TOKEN}


def _fill_mask(handler: PipelineHandler) -> _Document | None:
    tokens = [getattr(each, "mask_token", None) for each in handler.processors]
    mask = next((each for each in tokens if each), None)
    return mask and {"inputs": f"{_TEXT} {mask}"}


def _question(handler: PipelineHandler) -> _Document:
    return {"inputs": {"question": _TEXT, "context": _TEXT}}


def _question_about_a_table(handler: PipelineHandler) -> _Document:
    return {"inputs": {"query": _TEXT, "table": {_TEXT: [_TEXT]}}}


def _question_about_a_page(handler: PipelineHandler) -> _Document:
    page = {"image": _picture(), "question": _TEXT, "word_boxes": [[_TEXT, [0, 0, 500, 500]]]}
    return {"inputs": page}


def _masks(handler: PipelineHandler) -> _Document:
    return {"inputs": _picture(), "parameters": {"points_per_crop": 1}}


def _speech(handler: PipelineHandler) -> _Document:
    steps = {"generate_kwargs": _ONE_TOKEN} if handler.model.can_generate() else {}
    return {"inputs": _sound(handler), "parameters": steps}


def _spoken(handler: PipelineHandler) -> _Document | None:
    """None for models that generate audio in many steps, since the number of steps cannot be limited."""
    return None if handler.model.can_generate() else {"inputs": _TEXT}


_SPECIAL: dict[str, Callable[[PipelineHandler], _Document | None]] = {
    "automatic-speech-recognition": _speech,
    "document-question-answering": _question_about_a_page,
    "fill-mask": _fill_mask,
    "mask-generation": _masks,
    "question-answering": _question,
    "summarization": _generating,
    "table-question-answering": _question_about_a_table,
    "text-generation": _generating,
    "text-to-audio": _spoken,
    "text2text-generation": _generating,
    "translation": _generating,
}


def _picture() -> str:
    stream = io.BytesIO()
    Image.new("RGB", (_PIXELS, _PIXELS)).save(stream, "PNG")
    return base64.b64encode(stream.getvalue()).decode()


def _sound(handler: PipelineHandler) -> _Document:
    rates = [getattr(each, "sampling_rate", None) for each in handler.processors]
    rate = next((each for each in rates if isinstance(each, int)), 16_000)
    return {"raw": [0.0] * int(_SOUND_S * rate), "sampling_rate": rate}
