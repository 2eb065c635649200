"""Settings inside an artifact: the file `serving.properties`, with the keys that DJL Serving uses."""

import difflib
import logging
import re
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

from model_handler.artifacts.conventions import Convention
from model_handler.errors import ModelLoadFailed

log = logging.getLogger(__name__)
FILE_NAME = "serving.properties"
MAX_NBYTES = 64 << 10
# Largest values: products and sums of them with sizes and times stay exact in a 64-bit float
MAX_CONCURRENCY = 1024
MAX_WEIGHT = 1000
MAX_BATCH_SIZE = 4096
MAX_DELAY_MS = 30_000
MAX_QUEUE = 1_000_000
MAX_MEGABYTES = 1 << 24  # 16 TiB
DTYPES = {name: name for name in ("auto", "float32", "bfloat16", "float16")} | {
    "fp32": "float32", "bf16": "bfloat16", "fp16": "float16", "half": "float16",
}  # fmt: skip
MAX_SHOWN = 40  # characters of a value that an error quotes
ParseValue = Callable[[str, str], Any]
_DIGITS = re.compile(r"[0-9]{1,15}")


class Isolation(StrEnum):
    """The process that runs an artifact's code: one for this model only, or one shared with other models.

    Models that share a process have to trust each other.
    """

    OWN = "own"
    SHARED = "shared"


@dataclass(frozen=True, slots=True)
class Properties:
    """`None`: not set in the artifact; the container's setting or detection from the files applies."""

    convention: Convention | None = None
    task: str | None = None
    dtype: str | None = None
    isolation: Isolation | None = None
    concurrency: int | None = None
    scheduling_weight: int | None = None
    batch_size: int | None = None
    max_batch_delay_ms: int | None = None
    job_queue_size: int | None = None
    required_memory_nbytes: int | None = None
    gpu_required_memory_nbytes: int | None = None


def read(directory: Path) -> Properties:
    """The artifact's own settings. Raises ModelLoadFailed for an invalid value."""
    file = directory / FILE_NAME
    if not file.is_file():
        return Properties()
    if file.stat().st_size > MAX_NBYTES:
        raise ModelLoadFailed(f"{FILE_NAME} is larger than {MAX_NBYTES} bytes")
    pairs = _pairs(file.read_text(encoding="utf-8", errors="replace"))
    for key in pairs.keys() - _FIELDS.keys():
        _warn_unknown(directory, key)
    fields = ((key, *_FIELDS[key]) for key in _FIELDS if key in pairs)
    return Properties(**{name: parse(key, pairs[key]) for key, name, parse in fields})


def _pairs(text: str) -> dict[str, str]:
    lines = (line.strip() for line in text.splitlines())
    entries = (line.partition("=") for line in lines if line and line[0] not in "#!")
    return {key.strip(): value.strip() for key, _, value in entries}


def _warn_unknown(directory: Path, key: str) -> None:
    nearest = difflib.get_close_matches(key, _FIELDS, n=1)
    log.warning(
        "unknown property",
        extra={
            "artifact": str(directory),
            "property": key,
            "nearest": nearest[0] if nearest else "",
        },
    )


def dtype_name(text: str) -> str | None:
    """PyTorch's name of a data type, from that name, with or without `torch.`, or a short one; else None."""
    return DTYPES.get(text.lower().removeprefix("torch."))


# ---- values: from key and text ----


def _text(key: str, value: str) -> str:
    return value


def _dtype(key: str, value: str) -> str:
    if (name := dtype_name(value)) is None:
        raise _refused(key, value, f"one of {', '.join(sorted(DTYPES))}")
    return name


def _one_of(choices: type[StrEnum]) -> ParseValue:
    def parse(key: str, value: str) -> StrEnum:
        try:
            return choices(value.lower())
        except ValueError:
            raise _refused(key, value, f"one of {', '.join(choices)}") from None

    return parse


def _number(high: int) -> ParseValue:
    """A whole number from 1 to `high`. Its digits are bounded before they are read as a number."""

    def parse(key: str, value: str) -> int:
        if not _DIGITS.fullmatch(value) or not 1 <= int(value) <= high:
            raise _refused(key, value, f"a whole number from 1 to {high}")
        return int(value)

    return parse


def _megabytes(key: str, value: str) -> int:
    return int(_number(MAX_MEGABYTES)(key, value)) << 20


def _refused(key: str, value: str, allowed: str) -> ModelLoadFailed:
    shown = value if len(value) <= MAX_SHOWN else f"{value[:MAX_SHOWN]}..."
    return ModelLoadFailed(f"{key}={shown}: must be {allowed}")


_FIELDS: dict[str, tuple[str, ParseValue]] = {
    "option.convention": ("convention", _one_of(Convention)),
    "option.task": ("task", _text),
    "option.dtype": ("dtype", _dtype),
    "option.isolation": ("isolation", _one_of(Isolation)),
    "option.concurrency": ("concurrency", _number(MAX_CONCURRENCY)),
    "option.scheduling_weight": ("scheduling_weight", _number(MAX_WEIGHT)),
    "batch_size": ("batch_size", _number(MAX_BATCH_SIZE)),
    "max_batch_delay": ("max_batch_delay_ms", _number(MAX_DELAY_MS)),
    "job_queue_size": ("job_queue_size", _number(MAX_QUEUE)),
    "required_memory_mb": ("required_memory_nbytes", _megabytes),
    "gpu.required_memory_mb": ("gpu_required_memory_nbytes", _megabytes),
}
