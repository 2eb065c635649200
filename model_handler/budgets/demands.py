"""What the inputs and parameters of one request ask for, by task, before anything is made of them."""

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from model_handler.budgets import texts, windows
from model_handler.budgets.limits import EXPANSION, check
from model_handler.errors import InvalidRequest
from model_handler.options import RequestLimits

_POINTS_PER_BATCH = 64  # of transformers' mask-generation
_POINTS = 32
_TOKENIZING = ("tokenizer_kwargs", "tokenize_kwargs")


@dataclass(frozen=True, slots=True)
class Demand:
    """One request. `parameters` may be changed to answer the same with less memory."""

    inputs: Any
    parameters: dict[str, Any]
    pipeline: Any
    limits: RequestLimits

    @property
    def items(self) -> list[Any]:
        return self.inputs if isinstance(self.inputs, list) else [self.inputs]


def check_demand(family: str, demand: Demand) -> None:
    """Raises InvalidRequest that names the limit and its setting."""
    texts.check_texts(demand.inputs, demand.parameters, demand.limits)
    for name in _TOKENIZING:
        if given := demand.parameters.get(name):
            _check_tokenizing(demand, given)
    if (specific := _BY_FAMILY.get(family)) is not None:
        specific(demand)


def check_items(items: list[Any], limits: RequestLimits) -> None:
    """`items`: the inputs as the pipeline reads them, which may repeat a text for each question."""
    check(limits, "units", len(items), "inputs")
    check(limits, "text_characters", sum(map(texts.characters, items)), "characters")


def check_answers(rows: int, parameters: Mapping[str, Any], limits: RequestLimits) -> None:
    top = [parameters.get(name) for name in ("top_k", "topk")]
    most = max((each for each in top if type(each) is int), default=0)
    check(limits, "values", rows * most, "answers (top_k × rows)")


# ---- by task ----


def _check_labels(demand: Demand) -> None:
    texts.check_labels(demand.inputs, demand.parameters, demand.limits)


def _check_tokenizing(demand: Demand, given: Mapping[str, Any]) -> None:
    tokenizer = demand.pipeline.tokenizer
    if tokenizer is not None:
        windows.check_tokenizing(demand.inputs, given, tokenizer, demand.limits)


def _check_classification(demand: Demand) -> None:
    _check_tokenizing(demand, demand.parameters)


def _check_entities(demand: Demand) -> None:
    tokenizer = demand.pipeline.tokenizer
    windows.check_entities(demand.inputs, demand.parameters, tokenizer, demand.limits)


def _check_page(demand: Demand) -> None:
    tokenizer = demand.pipeline.tokenizer
    windows.check_page(demand.inputs, demand.parameters, tokenizer, demand.limits)


def _check_messages(demand: Demand) -> None:
    """A chat template repeats its text for each message."""
    messages = sum(1 for _ in _mappings([demand.inputs, demand.parameters]))
    check(demand.limits, "units", messages, "messages")


def _check_audio(demand: Demand) -> None:
    rate = getattr(demand.pipeline.feature_extractor, "sampling_rate", None) or 16_000
    sizes = [len(each) for each in demand.items if hasattr(each, "dtype")]
    check(demand.limits, "audio_s", sum(sizes) / rate, "seconds of audio")
    shortest = getattr(demand.pipeline.feature_extractor, "n_samples", 0)
    for size in sizes:
        windows.check_chunks(size, rate, demand.parameters, shortest, demand.limits)


def _check_sound_labels(demand: Demand) -> None:
    _check_audio(demand)
    _check_labels(demand)


def _check_segments(demand: Demand) -> None:
    """Segmentation scores each class, or each query, at each pixel of the image."""
    config = demand.pipeline.model.config
    maps = max(_number(config, "num_labels"), _number(config, "num_queries"), 1)
    pixels = maps * max(map(_pixels, demand.items), default=0)
    what = f"pixels in {maps} maps of the image's size"
    check(demand.limits, "pixels", pixels, what, times=EXPANSION)


def _check_masks(demand: Demand) -> None:
    """mask-generation: points × crops, and masks of the image's size for each point of a batch."""
    given = demand.parameters
    points = _whole(given, "points_per_crop", _POINTS)
    layers = _whole(given, "crops_n_layers", 0, low=0)
    smaller = _whole(given, "crop_n_points_downscale_factor", 1)
    pixels = max(map(_pixels, demand.items), default=0)
    if given.get("points_per_batch") is None:
        most = demand.limits.pixels // max(pixels, 1)
        given["points_per_batch"] = max(1, min(_POINTS_PER_BATCH, most))
    batch = _whole(given, "points_per_batch", _POINTS_PER_BATCH)
    shown = min(batch, points**2)
    check(demand.limits, "pixels", shown * pixels, "pixels in masks (points_per_batch × image)")
    layers = min(layers, 16)  # 4^16 crops are beyond any limit
    rows = sum(
        4**i * math.ceil(max(1, points // smaller**i) ** 2 / batch) for i in range(layers + 1)
    )
    check(demand.limits, "units", rows * len(demand.items), "rows (points and crops)")
    crops = sum(4**layer for layer in range(layers + 1))
    check(demand.limits, "pixels", crops * 1024**2, "pixels in crops")


def _whole(given: Mapping[str, Any], name: str, default: int, *, low: int = 1) -> int:
    value = given.get(name)
    value = default if value is None else value
    if type(value) is not int or not low <= value <= 10**6:
        raise InvalidRequest(f"{name} has to be a whole number from {low} to {10**6}")
    return value


def _number(config: Any, name: str) -> int:
    value = getattr(config, name, None)
    return value if isinstance(value, int) else 0


def _pixels(item: Any) -> int:
    width, height = getattr(item, "size", (0, 0))
    return int(width * height)


def _mappings(value: Any) -> Iterator[Mapping[str, Any]]:
    pending = [value]
    while pending:
        each = pending.pop()
        if isinstance(each, Mapping):
            yield each
            pending += each.values()
        elif isinstance(each, list | tuple):
            pending += each


_BY_FAMILY: dict[str, Callable[[Demand], None]] = {
    "audio-classification": _check_audio,
    "automatic-speech-recognition": _check_audio,
    "document-question-answering": _check_page,
    "image-segmentation": _check_segments,
    "mask-generation": _check_masks,
    "text-classification": _check_classification,
    "text-generation": _check_messages,
    "token-classification": _check_entities,
    "zero-shot-audio-classification": _check_sound_labels,
    "zero-shot-classification": _check_labels,
    "zero-shot-image-classification": _check_labels,
    "zero-shot-object-detection": _check_labels,
}
