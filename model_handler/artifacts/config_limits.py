"""Bounds for the numbers in an artifact's JSON files, checked before a library builds anything from them.

A few bytes of JSON can ask for gigabytes and hours. A model cannot have more layers than its files have
tensors, nor a vocabulary that is larger than each of its tensors.
"""

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from model_handler.artifacts import weights
from model_handler.errors import ModelLoadFailed

_EXEMPT = re.compile(r"(_ids?|_idx|_index|theta|_base|max_length|_tokens?|_params)$")
_LAYERS = re.compile(r"layers?(?!_)|blocks?(?!_)|depths?(?!_)|stages?(?!_)")
_REPEATED = re.compile(r"heads?|labels?|experts?|groups?|codebooks?|quantizers?|class(es)?(?!if)")
_SIZES = re.compile(
    r"(^|_)(n|num|d|dim|dims|size|sizes|hidden|positions?|ctx|embd|embeddings|channels|width|height|kernel"
    r"|buckets|length|window|frames|bins|ratio|stride|dilation|factor)(_|$)"
)
_COUNTED_LAYERS = re.compile(
    r"^(num|n)_(\w+_)?(layers?|blocks?)$"
)  # others may count from the end: -1
_MAX_LAYERS = 4096  # or as many as the files have tensors
_MAX_REPEATED = 1 << 16  # or as many as the largest tensor has items, as for the other sizes
_MAX_SIZE = 1 << 24  # the longest public model has 10,485,760 positions
# Image and audio processors. Pixels: of one edge
_EDGE = re.compile(
    r"^(height|width|shortest_edge|longest_edge|size|crop_size|pad_size|image_size)$"
)
_MAX_EDGE = 8192
_MAX_SAMPLES = 1 << 26  # of one chunk of sound: 46 minutes at 24 kHz
_MAX_SETTING = 1 << 23


def check(config: Mapping[str, Any], files: Sequence[Path]) -> None:
    """`config`: of config.json. `files`: the weights.

    Raises ModelLoadFailed for a number beyond all bounds.
    """
    extent = weights.extent(files)
    for path, number in _numbers(config):
        limit = _limit(path[-1], extent)
        if number < 0 and _COUNTED_LAYERS.match(path[-1]):
            raise ModelLoadFailed(
                f"config.json sets {'.'.join(path)[-100:]} to {number}: not built"
            )
        if limit is not None and number > limit:
            raise _beyond("config.json", path, number, limit)


def _limit(key: str, extent: weights.Extent | None) -> int | None:
    """The largest value for a key; None: any. `extent` is unknown for files that are pickles."""
    tensors, items = (extent.tensors, extent.items) if extent else (0, _MAX_SIZE)
    if _EXEMPT.search(key):
        return None
    if _LAYERS.search(key):
        return max(_MAX_LAYERS, tensors)
    if _REPEATED.search(key):
        return max(_MAX_REPEATED, items)
    return max(_MAX_SIZE, items) if _SIZES.search(key) else None


def check_processor(document: Mapping[str, Any], name: str) -> None:
    """`document`: of preprocessor_config.json or the like. Raises ModelLoadFailed."""
    for path, number in _numbers(document):
        edge = any(_EDGE.match(key) for key in path)
        limit = _MAX_EDGE if edge else _MAX_SETTING
        if number > limit:
            raise _beyond(name, path, number, limit)
    factors = [document.get(key) for key in ("sampling_rate", "chunk_length")]
    samples = math.prod(each for each in factors if isinstance(each, int | float))
    if samples > _MAX_SAMPLES:
        raise _beyond(name, ("sampling_rate × chunk_length",), samples, _MAX_SAMPLES)


def _beyond(name: str, path: Sequence[str], number: float, limit: int) -> ModelLoadFailed:
    key = ".".join(path)[-100:]
    shown = f"{number:.3g}" if number > 1e15 else number
    return ModelLoadFailed(f"{name} sets {key} to {shown}, more than {limit}: not built")


def _numbers(
    document: object, path: tuple[str, ...] = ()
) -> Iterator[tuple[tuple[str, ...], float]]:
    """Each number with the keys that lead to it; items of a list have the list's keys."""
    if isinstance(document, Mapping):
        for key, value in document.items():
            yield from _numbers(value, (*path, str(key)))
    elif isinstance(document, list):
        for value in document:
            yield from _numbers(value, path)
    elif isinstance(document, int | float) and path:
        yield path, document
