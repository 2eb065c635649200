"""Settings that travel inside an artifact: `serving.properties`, with the names DJL users know."""

import difflib
import logging
from dataclasses import dataclass
from pathlib import Path

from model_handler.errors import ModelLoadFailed

log = logging.getLogger(__name__)
FILE_NAME = "serving.properties"
MAX_NBYTES = 64 << 10
DTYPES = {
    "auto": "auto", "fp32": "float32", "float32": "float32", "fp16": "float16",
    "float16": "float16", "bf16": "bfloat16", "bfloat16": "bfloat16",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Properties:
    """`None` means: as the container is set."""

    task: str | None = None
    dtype: str | None = None
    batch_size: int | None = None
    job_queue_size: int | None = None


KEYS = {
    "option.task": "task",
    "option.dtype": "dtype",
    "batch_size": "batch_size",
    "job_queue_size": "job_queue_size",
}


def read(directory: Path) -> Properties:
    """The artifact's own settings. Raises ModelLoadFailed for a value that cannot be meant."""
    file = directory / FILE_NAME
    if not file.is_file():
        return Properties()
    if file.stat().st_size > MAX_NBYTES:
        raise ModelLoadFailed(f"{FILE_NAME} is larger than {MAX_NBYTES} bytes")
    pairs = _pairs(file.read_text(encoding="utf-8", errors="replace"))
    known = {KEYS[key]: value for key, value in pairs.items() if key in KEYS}
    for key in pairs.keys() - KEYS.keys():
        _warn(directory, key)
    return Properties(
        task=known.get("task"),
        dtype=_dtype(known.get("dtype")),
        batch_size=_positive("batch_size", known.get("batch_size")),
        job_queue_size=_positive("job_queue_size", known.get("job_queue_size")),
    )


def _pairs(text: str) -> dict[str, str]:
    lines = (line.strip() for line in text.splitlines())
    entries = (line.partition("=") for line in lines if line and line[0] not in "#!")
    return {key.strip(): value.strip() for key, _, value in entries}


def _warn(directory: Path, key: str) -> None:
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
    if value.lower() not in DTYPES:
        raise ModelLoadFailed(f"option.dtype={value}: one of {', '.join(sorted(DTYPES))}")
    return DTYPES[value.lower()]


def _positive(key: str, value: str | None) -> int | None:
    if value is None:
        return None
    if not value.isdecimal() or int(value) < 1:
        raise ModelLoadFailed(f"{key}={value}: a whole number from 1 up")
    return int(value)
