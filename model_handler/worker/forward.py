"""The three steps of one batch of requests for one handler: prepare, forward, finish.

The steps may run on different threads; a batch is in one step at a time. An error affects only the
request that caused it, unless the device is lost.
"""

import logging
import math
import os
import time
from collections import deque
from collections.abc import Hashable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch

from model_handler.artifacts.stamps import Stamps
from model_handler.budgets import deadlines
from model_handler.codecs import toolkit
from model_handler.device.device import Device, is_sticky
from model_handler.errors import (
    DeadlineExceeded,
    EngineError,
    InferenceFailed,
    InsufficientMemory,
    InvalidRequest,
)
from model_handler.handlers import Encodes, Handler, Payload, Prepared, Unit
from model_handler.messages import InferenceRequest, InferenceResponse, Refusal
from model_handler.sharing import turnstile
from model_handler.worker.capacity import ForwardCapacity
from model_handler.worker.request_errors import one_line, refusal

log = logging.getLogger(__name__)

_OUT_OF_TIME = "the time for this request ran out before the model could run"
# A group is split where its longest row would have more than _WASTE times the tokens of its shortest, if
# the padding costs more tokens than the fixed cost of another forward.
_WASTE = 2


@dataclass(slots=True)
class Slot:
    """One request of a batch: decoded, then prepared or failed, then with one output per unit."""

    request: InferenceRequest
    payload: Payload | None = None
    prepared: Prepared | None = None
    error: EngineError | None = None
    outputs: list[Any] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Batch:
    """Requests for one model, and the model's forward capacity."""

    handler: Handler
    slots: list[Slot]
    capacity: ForwardCapacity = field(default_factory=ForwardCapacity)


@dataclass(frozen=True, slots=True)
class _Item:
    """One unit, and the slot and index for its output."""

    slot: Slot
    index: int
    unit: Unit


@dataclass(frozen=True, slots=True)
class _Bounds:
    """Limits of one forward: `tokens` including padding, and `padding` if rows are of unequal length, which
    is the fixed cost of another forward."""

    tokens: int
    padding: int


# On CPUs, larger forwards are not faster per token; on GPUs, the time of smaller ones is dominated by kernel
# launches. On CPUs, the fixed cost of a forward was measured as 15 tokens of distilbert, and as 60 tokens of
# a model with two layers of width 128.
_BOUNDS = {"cpu": _Bounds(tokens=512, padding=32), "cuda": _Bounds(tokens=16384, padding=1024)}

_LONG = 8  # forwards within these bounds, of one request: it lets others through between them
_LEAST = 64  # tokens that a unit counts at least, such as an image

# ---- prepare ----


def prepare(
    handler: Handler,
    requests: Sequence[InferenceRequest],
    capacity: ForwardCapacity | None = None,
    deadline: float = math.inf,
) -> Batch:
    """Decode and preprocess every request; `finish` returns the errors of those that fail.

    `capacity`: the model's forward capacity, shared by all of its batches.
    """
    batch = Batch(handler, [Slot(each) for each in requests], capacity or ForwardCapacity())
    deque(preparing(batch, deadline), maxlen=0)
    return batch


def preparing(batch: Batch, deadline: float) -> Iterator[None]:
    """The steps of `prepare`: between two of them the thread may do other work."""
    handler, slots = batch.handler, batch.slots
    for slot in slots:
        deadlines.current.until = deadline
        _decode(handler, slot, deadline)
        yield
    deadlines.current.until = deadline
    payloads = [slot.payload for slot in slots if slot.payload is not None]
    encoded = iter(_encoded(handler, payloads))
    for slot in slots:
        if slot.payload is not None:
            deadlines.current.until = deadline
            _preprocess(handler, slot, next(encoded), deadline)
            yield


def _decode(handler: Handler, slot: Slot, deadline: float) -> None:
    request = slot.request
    try:
        if time.monotonic() > deadline:
            raise DeadlineExceeded(_OUT_OF_TIME)
        codec = handler.codec or toolkit
        codec.check_accept(request.accept)
        slot.payload = codec.decode(request)
    # Decoders raise any exception, among them such that are no Exception: panics of libraries in Rust
    except BaseException as error:  # noqa: BLE001
        slot.error = refusal(error, InvalidRequest, request.body)


def _encoded(handler: Handler, payloads: Sequence[Payload]) -> Sequence[Any]:
    """Encode all payloads together. If that fails, None for each: they are then encoded one by one, and only
    the faulty ones fail."""
    nothing = [None] * len(payloads)
    if not isinstance(handler, Encodes):
        return nothing
    try:
        encoded = handler.encode(payloads)
        if len(encoded) == len(payloads):
            return encoded
        log.error("a batch was encoded to a wrong number of parts")
    except BaseException as error:
        log.info("a batch is tokenized one by one", exc_info=error)
    return nothing


def _preprocess(handler: Handler, slot: Slot, encoded: Any, deadline: float) -> None:
    payload, slot.payload = slot.payload, None
    assert payload is not None
    try:
        if time.monotonic() > deadline:
            raise DeadlineExceeded(_OUT_OF_TIME)
        ahead = () if encoded is None else (encoded,)
        slot.prepared = handler.preprocess(payload, *ahead)
        slot.outputs = [None] * len(slot.prepared.units)
    # Tokenizers and image processors raise any exception on invalid inputs
    except BaseException as error:  # noqa: BLE001
        slot.error = refusal(error, InvalidRequest, slot.request.body)


# ---- forward ----


def forward(
    batch: Batch, device: Device, deadline: float, *, token_budget: int | None = None
) -> None:
    """Compute all outputs in as few forwards as the limits on memory and padding allow.

    `deadline` is a time of time.monotonic(). Raises only if this process has lost its device.
    """
    bounds = _BOUNDS[device.torch_device.type]
    if token_budget is not None:
        bounds = _Bounds(token_budget, bounds.padding)
    by_group: dict[Hashable, list[_Item]] = {}
    for slot in batch.slots:
        for index, unit in enumerate(slot.prepared.units if slot.prepared else ()):
            by_group.setdefault(unit.group, []).append(_Item(slot, index, unit))
    for items in by_group.values():
        for part in [items] if len(items) == 1 else _cut(items, bounds, batch.capacity):
            _run(batch, part, deadline, device)
            if len(items) > 1:
                turnstile.give_way()


def is_long(batch: Batch, device: Device) -> bool:
    """Whether its forwards should let those of others through: a request alone has many of them."""
    most = _LONG * _BOUNDS[device.torch_device.type].tokens
    for slot in batch.slots:
        units = slot.prepared.units if slot.prepared is not None else ()
        if len(units) > 1 and sum(max(each.length, _LEAST) for each in units) > most:
            return True
    return False


def _cut(items: list[_Item], bounds: _Bounds, capacity: ForwardCapacity) -> Iterator[list[_Item]]:
    """Sort `items` by length, and split them into consecutive groups within the limits.

    A group is cut after the forwards before it, from which the capacity may have learned.
    """
    items.sort(key=lambda item: item.unit.length)
    start = tokens = 0
    for end, item in enumerate(items):
        longest = item.unit.length
        padded = (end - start + 1) * longest
        too_big = padded > capacity.bound(longest, bounds.tokens)
        uneven = longest > _WASTE * max(items[start].unit.length, 1)
        if end > start and (too_big or (uneven and padded - tokens - longest > bounds.padding)):
            yield items[start:end]
            start, tokens = end, 0
        tokens += longest
    yield items[start:]


def _run(batch: Batch, items: list[_Item], deadline: float, device: Device) -> None:
    """Run one forward; if it fails, run several smaller ones."""
    items = [item for item in items if item.slot.error is None]
    if not items:
        return
    failure = _attempt(batch.handler, items, deadline, device)
    size = len(items), items[-1].unit.length
    if failure is None:
        if batch.capacity.limited:
            batch.capacity.passed(*size)
        return
    if isinstance(failure, InsufficientMemory):
        batch.capacity.failed(*size)
        device.empty_cache()
    if len(items) == 1 or isinstance(failure, DeadlineExceeded):
        for item in items:
            item.slot.error = failure
        return
    for part in _parts(items, failure):
        _run(batch, part, deadline, device)


def _parts(items: list[_Item], failure: EngineError) -> list[list[_Item]]:
    """Halves after an out-of-memory error; single units after another error, to find the faulty ones."""
    if not isinstance(failure, InsufficientMemory):
        return [[item] for item in items]
    middle = len(items) // 2
    return [items[:middle], items[middle:]]


def _attempt(
    handler: Handler, items: list[_Item], deadline: float, device: Device
) -> EngineError | None:
    """Run one forward and return its error. It is not raised, since a traceback references the batch's
    tensors."""
    try:
        if time.monotonic() > deadline:
            raise DeadlineExceeded(_OUT_OF_TIME)
        _check_files(getattr(handler, "mapped", {}))
        deadlines.current.until = deadline
        with torch.inference_mode():
            outputs = handler.forward([item.unit for item in items], deadline)
        for item, output in zip(items, outputs, strict=True):
            item.slot.outputs[item.index] = output
    # Models raise any exception; the other requests of the batch must not fail with it
    except BaseException as error:
        if is_sticky(error, device):
            raise
        return refusal(error, InferenceFailed, *(item.slot.request.body for item in items))
    return None


def _check_files(mapped: Stamps) -> None:
    """Raises InferenceFailed if a file was written to since it was mapped.

    Its pages may be wrong, and reading one beyond a new end ends the process. A file that was deleted or
    replaced keeps its pages.
    """
    for path, stamp in mapped.items():
        try:
            found = os.stat(path)  # noqa: PTH116 - before every forward, and faster than pathlib
        except OSError:
            continue
        same = found.st_ino == stamp.inode and found.st_dev == stamp.device
        if same and (found.st_size, found.st_mtime_ns) != (stamp.nbytes, stamp.modified_ns):
            name = os.path.basename(path)
            raise InferenceFailed(
                f"{name} was written to after the model was loaded: load it again"
            )


# ---- threads of a forward ----


@contextmanager
def computing(threads: int) -> Iterator[None]:
    """Set PyTorch's thread count of the calling thread for the block; 0: leave it as it is."""
    usual = torch.get_num_threads()
    if threads in (0, usual):
        yield
        return
    torch.set_num_threads(threads)
    try:
        yield
    finally:
        torch.set_num_threads(usual)


# ---- finish ----


def finish(batch: Batch, deadline: float = math.inf) -> list[InferenceResponse | Refusal]:
    """Postprocess and encode; one result per request, in the order of the batch."""
    return list(finishing(batch, deadline))


def finishing(batch: Batch, deadline: float) -> Iterator[InferenceResponse | Refusal]:
    """The results of `finish`, one in each step: between two of them the thread may do other work."""
    for slot in batch.slots:
        deadlines.current.until = deadline
        yield _result(batch.handler, slot, deadline)


def _result(handler: Handler, slot: Slot, deadline: float) -> InferenceResponse | Refusal:
    if slot.error is None:
        assert slot.prepared is not None
        try:
            if time.monotonic() > deadline:
                raise DeadlineExceeded(
                    "the time for this request ran out before its answer was written"
                )
            answer = handler.postprocess(slot.prepared, slot.outputs)
            body, content_type = (handler.codec or toolkit).encode(answer, slot.request.accept)
            return InferenceResponse(body, content_type)
        # As in the forward: the other requests must not fail with this one
        except BaseException as error:  # noqa: BLE001
            slot.error = refusal(error, InferenceFailed, slot.request.body)
    return Refusal(type(slot.error).__name__, one_line(str(slot.error)))
