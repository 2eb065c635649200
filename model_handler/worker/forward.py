"""One batch of requests through one handler: prepare, forward, finish.

The three steps may run on different threads, each batch in one step at a time. Whatever goes wrong
belongs to the one request it happened to, unless the device itself is lost.
"""

import logging
import time
from collections.abc import Callable, Hashable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch

from model_handler.codecs import toolkit
from model_handler.device.device import Device, is_out_of_memory, is_sticky
from model_handler.errors import (
    DeadlineExceeded,
    EngineError,
    InferenceFailed,
    InsufficientMemory,
    InvalidRequest,
)
from model_handler.handlers import Codec, Encodes, Handler, Payload, Prepared, Unit
from model_handler.messages import InferenceRequest, InferenceResponse, Refusal
from model_handler.worker.capacity import ForwardCapacity

log = logging.getLogger(__name__)

_TRACEBACK = "Traceback (most recent call last)"
_MESSAGE_LENGTH = 500
# How much of a body is compared with an error's message
_SEARCHED = 200_000
# A group is cut where its longest row would be more than this many times its shortest, if that is worth a
# further forward: on CPUs one costs as much as 15 tokens of distilbert or 60 of two layers of 128
_WASTE = 2
_FORWARD_TOKENS = {"cpu": 32, "cuda": 1024}
# Padded tokens in one forward. On CPUs larger batches gain nothing; on GPUs smaller ones are bound by
# the time it takes to launch them.
_TOKEN_BUDGET = {"cpu": 512, "cuda": 16384}


@dataclass(slots=True)
class Slot:
    """One request on its way: decoded, prepared or refused, then with one output per unit."""

    request: InferenceRequest
    payload: Payload | None = None
    prepared: Prepared | None = None
    error: EngineError | None = None
    outputs: list[Any] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Batch:
    """Requests for one model, and what is known of how many fit together."""

    handler: Handler
    slots: list[Slot]
    ceilings: ForwardCapacity = field(default_factory=ForwardCapacity)


@dataclass(frozen=True, slots=True)
class _Item:
    """One unit and where its output goes."""

    slot: Slot
    index: int
    unit: Unit


@dataclass(frozen=True, slots=True)
class _Bounds:
    """Of one forward, in tokens: with its padding, and of padding where rows are uneven."""

    tokens: int
    padding: int


# ---- prepare ----


def prepare(
    handler: Handler, requests: Sequence[InferenceRequest], ceilings: ForwardCapacity | None = None
) -> Batch:
    """Decode and preprocess every request; those that fail are refused in `finish`.

    `ceilings`: the model's, from one batch to the next.
    """
    slots = [_decoded(handler, request) for request in requests]
    payloads = [slot.payload for slot in slots if slot.payload is not None]
    encoded = iter(_encoded(handler, payloads))
    for slot in slots:
        if slot.payload is not None:
            _preprocess(handler, slot, next(encoded))
    return Batch(handler, slots, ceilings or ForwardCapacity())


def _decoded(handler: Handler, request: InferenceRequest) -> Slot:
    slot = Slot(request)
    try:
        codec = _codec(handler)
        codec.check_accept(request.accept)
        slot.payload = codec.decode(request)
    # A codec may be the artifact's own
    except Exception as error:  # noqa: BLE001
        slot.error = _refusal(error, InvalidRequest, request.body)
    return slot


def _encoded(handler: Handler, payloads: Sequence[Payload]) -> Sequence[Any]:
    """Nothing where it fails for the batch: the one that it failed for will fail by itself."""
    nothing = [None] * len(payloads)
    if not isinstance(handler, Encodes):
        return nothing
    try:
        return handler.encode(payloads)
    except Exception as error:
        log.info("a batch is tokenized one by one", exc_info=error)
        return nothing


def _preprocess(handler: Handler, slot: Slot, encoded: Any) -> None:
    payload, slot.payload = slot.payload, None
    assert payload is not None
    try:
        ahead = () if encoded is None else (encoded,)
        slot.prepared = handler.preprocess(payload, *ahead)
        slot.outputs = [None] * len(slot.prepared.units)
    # Tokenizers and image processors raise anything at odd inputs
    except Exception as error:  # noqa: BLE001
        slot.error = _refusal(error, InvalidRequest, slot.request.body)


def _codec(handler: Handler) -> Codec:
    return handler.codec or toolkit


# ---- forward ----


def forward(
    batch: Batch, device: Device, deadline: float, *, token_budget: int | None = None
) -> None:
    """Compute every output in as few forwards as memory and padding allow.

    `deadline` is on time.monotonic's clock. Raises only when the device is lost for this process.
    """
    kind = device.torch_device.type
    bounds = _Bounds(token_budget or _TOKEN_BUDGET[kind], _FORWARD_TOKENS[kind])
    for items in _groups(batch, bounds):
        _run(batch, items, deadline, device)


def _groups(batch: Batch, bounds: _Bounds) -> Iterator[list[_Item]]:
    by_group: dict[Hashable, list[_Item]] = {}
    for slot in batch.slots:
        for index, unit in enumerate(slot.prepared.units if slot.prepared else ()):
            by_group.setdefault(unit.group, []).append(_Item(slot, index, unit))
    for items in by_group.values():
        ordered = sorted(items, key=lambda item: item.unit.length)
        yield from _cut(ordered, bounds, batch.ceilings)


def _cut(items: list[_Item], bounds: _Bounds, ceilings: ForwardCapacity) -> Iterator[list[_Item]]:
    """Runs of `items`, short to long, whose padded size and padding stay bounded."""
    start = tokens = 0
    for end, item in enumerate(items):
        longest = item.unit.length
        padded = (end - start + 1) * longest
        too_big = padded > ceilings.bound(longest, bounds.tokens)
        uneven = longest > _WASTE * max(items[start].unit.length, 1)
        if end > start and (too_big or (uneven and padded - tokens - longest > bounds.padding)):
            yield items[start:end]
            start, tokens = end, 0
        tokens += longest
    yield items[start:]


def _run(batch: Batch, items: list[_Item], deadline: float, device: Device) -> None:
    """One forward, or several smaller ones when it fails."""
    items = [item for item in items if item.slot.error is None]
    if not items:
        return
    failure = _attempt(batch.handler, items, deadline, device)
    size = len(items), items[-1].unit.length
    if failure is None:
        batch.ceilings.passed(*size)
        return
    if isinstance(failure, InsufficientMemory):
        batch.ceilings.failed(*size)
        device.empty_cache()
    if len(items) == 1 or isinstance(failure, DeadlineExceeded):
        for item in items:
            item.slot.error = failure
        return
    for part in _parts(items, failure):
        _run(batch, part, deadline, device)


def _parts(items: list[_Item], failure: EngineError) -> list[list[_Item]]:
    """Halves when memory ran out; single units when one of them is to blame for something else."""
    if not isinstance(failure, InsufficientMemory):
        return [[item] for item in items]
    middle = len(items) // 2
    return [items[:middle], items[middle:]]


def _attempt(
    handler: Handler, items: list[_Item], deadline: float, device: Device
) -> EngineError | None:
    """Returns the failure rather than raising it: a live traceback would keep the batch's tensors."""
    try:
        if time.monotonic() > deadline:
            raise DeadlineExceeded("the time for this request ran out before the model could run")
        with torch.inference_mode():
            outputs = handler.forward([item.unit for item in items], deadline)
        for item, output in zip(items, outputs, strict=True):
            item.slot.outputs[item.index] = output
    # Models raise anything; it must not take the other requests with it
    except Exception as error:
        if is_sticky(error, device):
            raise
        return _refusal(error, InferenceFailed, *(item.slot.request.body for item in items))
    return None


# ---- finish ----


def finish(batch: Batch) -> list[InferenceResponse | Refusal]:
    """Postprocess and encode; one result per request, in their order."""
    return [_result(batch.handler, slot) for slot in batch.slots]


def _result(handler: Handler, slot: Slot) -> InferenceResponse | Refusal:
    if slot.error is None:
        try:
            return _answer(handler, slot)
        # The same reason as in the forward
        except Exception as error:  # noqa: BLE001
            slot.error = _refusal(error, InferenceFailed, slot.request.body)
    return Refusal(type(slot.error).__name__, one_line(str(slot.error)))


def _answer(handler: Handler, slot: Slot) -> InferenceResponse:
    assert slot.prepared is not None
    answer = handler.postprocess(slot.prepared, slot.outputs)
    body, content_type = _codec(handler).encode(answer, slot.request.accept)
    return InferenceResponse(body, content_type)


# ---- errors ----


def _refusal(
    error: Exception, otherwise: Callable[[str], EngineError], *bodies: bytes
) -> EngineError:
    """The engine's error for any error, without its traceback. What is not ours goes to the log in full."""
    if isinstance(error, EngineError):
        return type(error)(*error.args)
    level = logging.INFO if otherwise is InvalidRequest else logging.ERROR
    log.log(level, "request failed", exc_info=error)
    if is_out_of_memory(error):
        return InsufficientMemory("one request alone needs more memory than the device has left")
    text = one_line(str(error))
    if any(quotes(text, body) for body in bodies):
        text = "the message quotes the request and is withheld"
    return otherwise(f"{type(error).__name__}: {text}")


def one_line(text: str) -> str:
    """Without the traceback that some libraries put into their messages; it is in the log."""
    return " ".join(text.partition(_TRACEBACK)[0].split())[:_MESSAGE_LENGTH]


def quotes(text: str, body: bytes, width: int = 24) -> bool:
    """True when about `width` characters in a row of the message also stand in the body."""
    source = " ".join(body[:_SEARCHED].decode("utf-8", "replace").split())
    return any(text[at : at + width] in source for at in range(0, len(text) - width + 1, 4))
