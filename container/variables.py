"""Parsers of environment variables. Each returns a value or raises NotAllowed."""

import logging
import math
import os
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from model_handler.artifacts import properties, tasks
from model_handler.errors import ModelLoadFailed

_UNITS = {"": 1, "B": 1} | {
    f"{letter}{infix}B": base**power
    for power, letter in enumerate("KMGT", start=1)
    for infix, base in (("", 1000), ("i", 1024))
}
_SIZE = re.compile(r"([0-9]{1,15}(?:\.[0-9]{1,6})?) ?([A-Za-z]*)")
_NUMBER = re.compile(r"[0-9]{1,15}")
_SECONDS = re.compile(r"[0-9]{1,9}(?:\.[0-9]{1,6})?")
_DEVICE = re.compile(r"auto|cpu|cuda(?::[0-9]{1,3})?")
_PORTS = re.compile(r"([0-9]{1,5})-([0-9]{1,5})")
_UIDS = re.compile(r"([0-9]{1,10})-([0-9]{1,10})")
_LEVELS = ("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL")

Parse = Callable[[str], Any]


class NotAllowed(ValueError):
    """`str(error)` describes the allowed values."""


def truth(text: str) -> bool:
    """A boolean in upper or lower case: SageMaker sets `true`, AWS's tests set `True`."""
    word = text.strip().lower()
    if word not in ("true", "false", ""):
        raise NotAllowed("true or false")
    return word == "true"


def number(low: int, high: int) -> Parse:
    def parse(text: str) -> int:
        if not _NUMBER.fullmatch(text) or not low <= int(text) <= high:
            raise NotAllowed(f"a whole number from {low} to {high}")
        return int(text)

    return parse


port = number(1, 65535)


def port_range(text: str) -> tuple[int, int]:
    match = _PORTS.fullmatch(text)
    if match is None or not 0 < int(match[1]) <= int(match[2]) <= 65535:
        raise NotAllowed("two port numbers, the lower first, as in 25000-25999")
    return int(match[1]), int(match[2])


def uid_range(text: str) -> tuple[int, int]:
    match = _UIDS.fullmatch(text)
    if match is None or not 1000 <= int(match[1]) <= int(match[2]) < 2**31:
        raise NotAllowed("two uids from 1000 on, the lower first, as in 20000-29999")
    return int(match[1]), int(match[2])


def seconds(high: float) -> Parse:
    def parse(text: str) -> float:
        if not _SECONDS.fullmatch(text) or not 0 < float(text) <= high:
            raise NotAllowed(f"seconds, more than 0 and at most {high:g}")
        return float(text)

    return parse


def size(text: str) -> int:
    """A size in bytes, from texts such as `512MiB`, `1.5GB` or `1048576`."""
    match = _SIZE.fullmatch(text)
    factor = _UNITS.get(match[2]) if match else None
    nbytes = math.floor(float(match[1]) * factor) if match and factor else 0
    if nbytes <= 0:
        raise NotAllowed(f"bytes, alone or in one of {', '.join(list(_UNITS)[1:])}, as in 512MiB")
    return nbytes


def size_within(high: int) -> Parse:
    def parse(text: str) -> int:
        if (nbytes := size(text)) > high:
            raise NotAllowed(f"at most {high} bytes")
        return nbytes

    return parse


def size_or_zero(text: str) -> int:
    return 0 if text == "0" else size(text)


def megabytes(text: str) -> int:
    nbytes: int = number(0, 1 << 20)(text)
    return nbytes << 20


def directory(text: str) -> Path:
    if not text.startswith("/") or "\0" in text:
        raise NotAllowed("an absolute path")
    return Path(text)


def directories(text: str) -> tuple[Path, ...]:
    parts = [part for part in text.split(os.pathsep) if part]
    if not parts:
        raise NotAllowed(f"absolute paths with {os.pathsep!r} between them")
    return tuple(directory(part) for part in parts)


def one_of(allowed: Sequence[str]) -> Parse:
    def parse(text: str) -> str:
        if text not in allowed:
            raise NotAllowed(f"one of {', '.join(allowed)}")
        return text

    return parse


def dtype(text: str) -> str:
    name = properties.dtype_name(text)
    if name is None:
        raise NotAllowed(f"one of {', '.join(properties.DTYPES)}")
    return name


def device(text: str) -> str:
    if not _DEVICE.fullmatch(text):
        raise NotAllowed("auto, cpu, cuda or cuda:<number>")
    return text


def task(text: str) -> str:
    try:
        return tasks.normalise(text)
    except ModelLoadFailed as error:
        raise NotAllowed(str(error)) from None


def log_level(text: str) -> int:
    """The name of a level, or its number, which the SageMaker SDK sets."""
    if text.upper() in _LEVELS:
        return int(logging.getLevelNamesMapping()[text.upper()])
    if not _NUMBER.fullmatch(text) or int(text) > logging.CRITICAL:
        raise NotAllowed(f"one of {', '.join(_LEVELS)} or a number from 0 to {logging.CRITICAL}")
    return int(text)


def printable(text: str) -> str:
    if not text or not text.isprintable() or not text.isascii():
        raise NotAllowed("printable ASCII characters")
    return text
