"""Settings inside an artifact: the file `serving.properties`, with the keys that DJL Serving uses."""

import difflib
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import TypeVar

from model_handler.artifacts.conventions import Convention
from model_handler.errors import ModelLoadFailed

log = logging.getLogger(__name__)
FILE_NAME = "serving.properties"
MAX_NBYTES = 64 << 10
DTYPES = {name: name for name in ("auto", "float32", "bfloat16", "float16")} | {
    "fp32": "float32", "bf16": "bfloat16", "fp16": "float16", "half": "float16",
}  # fmt: skip
Choice = TypeVar("Choice", bound=StrEnum)


class Isolation(StrEnum):
    """Where an artifact's own code runs: in a process for this model alone, or in one shared with others.

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


KEYS = (
    "option.convention",
    "option.task",
    "option.dtype",
    "option.isolation",
    "option.concurrency",
    "option.scheduling_weight",
    "batch_size",
    "max_batch_delay",
    "job_queue_size",
    "required_memory_mb",
    "gpu.required_memory_mb",
)


def read(directory: Path) -> Properties:
    """The artifact's own settings. Raises ModelLoadFailed for an invalid value."""
    file = directory / FILE_NAME
    if not file.is_file():
        return Properties()
    if file.stat().st_size > MAX_NBYTES:
        raise ModelLoadFailed(f"{FILE_NAME} is larger than {MAX_NBYTES} bytes")
    pairs = _pairs(file.read_text(encoding="utf-8", errors="replace"))
    for key in pairs.keys() - set(KEYS):
        _warn_unknown(directory, key)
    return Properties(
        convention=_one_of(Convention, pairs, "option.convention"),
        task=pairs.get("option.task"),
        dtype=_dtype(pairs.get("option.dtype")),
        isolation=_one_of(Isolation, pairs, "option.isolation"),
        concurrency=_positive(pairs, "option.concurrency"),
        scheduling_weight=_positive(pairs, "option.scheduling_weight"),
        batch_size=_positive(pairs, "batch_size"),
        max_batch_delay_ms=_positive(pairs, "max_batch_delay"),
        job_queue_size=_positive(pairs, "job_queue_size"),
        required_memory_nbytes=_megabytes(pairs, "required_memory_mb"),
        gpu_required_memory_nbytes=_megabytes(pairs, "gpu.required_memory_mb"),
    )


def _pairs(text: str) -> dict[str, str]:
    lines = (line.strip() for line in text.splitlines())
    entries = (line.partition("=") for line in lines if line and line[0] not in "#!")
    return {key.strip(): value.strip() for key, _, value in entries}


def _warn_unknown(directory: Path, key: str) -> None:
    nearest = difflib.get_close_matches(key, KEYS, n=1)
    log.warning(
        "unknown property",
        extra={
            "artifact": str(directory),
            "property": key,
            "nearest": nearest[0] if nearest else "",
        },
    )


def _dtype(value: str | None) -> str | None:
    if value is None:
        return None
    if (name := dtype_name(value)) is None:
        raise ModelLoadFailed(f"option.dtype={value}: must be one of {', '.join(sorted(DTYPES))}")
    return name


def dtype_name(text: str) -> str | None:
    """PyTorch's name, also from the short ones and with `torch.` in front; None for anything else."""
    return DTYPES.get(text.lower().removeprefix("torch."))


def _one_of(choices: type[Choice], pairs: Mapping[str, str], key: str) -> Choice | None:
    value = pairs.get(key)
    if value is None:
        return None
    try:
        return choices(value.lower())
    except ValueError:
        raise ModelLoadFailed(f"{key}={value}: must be one of {', '.join(choices)}") from None


def _positive(pairs: Mapping[str, str], key: str) -> int | None:
    value = pairs.get(key)
    if value is None:
        return None
    if not (value.isascii() and value.isdecimal()) or int(value) < 1:
        raise ModelLoadFailed(f"{key}={value}: must be a whole number from 1 up")
    return int(value)


def _megabytes(pairs: Mapping[str, str], key: str) -> int | None:
    value = _positive(pairs, key)
    return None if value is None else value << 20
