"""Hostile files: what is no regular file, what lies outside the artifact, safetensors and properties."""

import json
import os
import socket
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.artifacts import bert_classifier
from tests.hostile.inputs.artifacts import ANSWERED, EITHER, REFUSED, Hostile, properties

WEIGHTS = "model.safetensors"
Change = Callable[[dict[str, Any]], object]


# ---- what is no file ----


def with_file(name: str, make: Callable[[Path], object]) -> Callable[[Path], None]:
    """A sound classifier with one file replaced or added."""

    def write(to: Path) -> None:
        bert_classifier(to)
        (to / name).unlink(missing_ok=True)
        make(to / name)

    return write


def linked(target: str) -> Callable[[Path], None]:
    return lambda file: file.symlink_to(target)


def neighbours(name: str) -> Callable[[Path], None]:
    """A link to a file of the neighbour, whose artifact is beside this one."""
    return lambda file: file.symlink_to(file.parents[2] / "neighbour" / "model" / name)


def sparse(file: Path) -> None:
    with file.open("wb") as stream:
        stream.truncate(200 << 30)


def unix_socket(file: Path) -> None:
    """Bound by a relative name, since the path may be longer than an address can be."""
    before = Path.cwd()
    with socket.socket(socket.AF_UNIX) as bound:
        os.chdir(file.parent)
        try:
            bound.bind(file.name)
        finally:
            os.chdir(before)


def _foreign_shard(to: Path) -> None:
    """An index whose shard is another model's file."""
    bert_classifier(to)
    names = json.loads(_header(to / WEIGHTS)[1])
    (to / WEIGHTS).unlink()
    shard = "../../neighbour/model/model.safetensors"
    document = {"metadata": {}, "weight_map": dict.fromkeys(names, shard)}
    (to / f"{WEIGHTS}.index.json").write_text(json.dumps(document))


# With a sound classifier around them. Files that no loader reads may be ignored
NO_FILES = (
    Hostile("vocab-fifo", with_file("vocab.txt", os.mkfifo), EITHER, answers=ANSWERED),
    Hostile("model-zero", with_file("x.model", linked("/dev/zero")), EITHER, answers=ANSWERED),
    Hostile("model-sparse", with_file("x.model", sparse), EITHER, answers=ANSWERED),
    Hostile("config-fifo", with_file("config.json", os.mkfifo)),
    Hostile("weights-fifo", with_file(WEIGHTS, os.mkfifo)),
    Hostile("weights-directory", with_file(WEIGHTS, Path.mkdir)),
    Hostile("tokenizer-fifo", with_file("tokenizer.json", os.mkfifo)),
    Hostile("tokenizer-zero", with_file("tokenizer.json", linked("/dev/zero"))),
    Hostile("tokenizer-sparse", with_file("tokenizer.json", sparse)),
    Hostile("tokenizer-socket", with_file("tokenizer.json", unix_socket)),
    Hostile("names-tty", with_file("tokenizer_config.json", linked("/dev/tty"))),
    Hostile("properties-fifo", with_file("serving.properties", os.mkfifo)),
    Hostile(
        "generation-fifo", with_file("generation_config.json", os.mkfifo), EITHER, answers=ANSWERED
    ),
    Hostile("link-to-itself", with_file("config.json", linked("config.json"))),
    Hostile("link-to-weights", with_file(WEIGHTS, neighbours(WEIGHTS))),
    Hostile("link-to-tokenizer", with_file("tokenizer.json", neighbours("tokenizer.json"))),
    Hostile("link-to-passwd", with_file("vocab.txt", linked("/etc/passwd"))),
    Hostile("foreign-shard", _foreign_shard),
)


# ---- safetensors ----


def _header(file: Path) -> tuple[bytes, bytes, bytes]:
    """Length, header and data of a safetensors file."""
    data = file.read_bytes()
    (length,) = struct.unpack_from("<Q", data)
    return data[:8], data[8 : 8 + length], data[8 + length :]


def framed(header: bytes, data: bytes) -> bytes:
    return struct.pack("<Q", len(header)) + header + data


def reheaded(change: Change) -> Callable[[Path], None]:
    """A classifier with a changed header of its weights."""

    def write(to: Path) -> None:
        bert_classifier(to)
        _, text, data = _header(to / WEIGHTS)
        header = json.loads(text)
        change(header)
        (to / WEIGHTS).write_bytes(framed(json.dumps(header).encode(), data))

    return write


def as_bytes(make: Callable[[bytes, bytes], bytes]) -> Callable[[Path], None]:
    """A classifier with weights made from its own header and data."""

    def write(to: Path) -> None:
        bert_classifier(to)
        _, text, data = _header(to / WEIGHTS)
        (to / WEIGHTS).write_bytes(make(text, data))

    return write


def _tensors(header: dict[str, Any]) -> list[dict[str, Any]]:
    return [each for name, each in header.items() if name != "__metadata__"]


def overlap(header: dict[str, Any]) -> None:
    """All tensors of the same shape lie in the same place."""
    first: dict[str, list[int]] = {}
    for each in _tensors(header):
        each["data_offsets"] = first.setdefault(str(each["shape"]), each["data_offsets"])


def swap(header: dict[str, Any]) -> None:
    """The first tensor ends where it begins."""
    _tensors(header)[0]["data_offsets"].reverse()


def _of_first(**changes: Any) -> Change:
    return lambda header: _tensors(header)[0].update(changes)


SAFETENSORS = (
    Hostile("overlapping", reheaded(overlap)),
    Hostile("gap", as_bytes(lambda text, data: framed(text, data + b"\0" * 4096))),
    Hostile("offsets-reversed", reheaded(swap)),
    Hostile("offsets-beyond", reheaded(_of_first(data_offsets=[0, 1 << 60]))),
    Hostile("offsets-negative", reheaded(_of_first(data_offsets=[-64, 0]))),
    Hostile("offsets-missing", reheaded(_of_first(data_offsets=[]))),
    Hostile("shape-overflows", reheaded(_of_first(shape=[1 << 32, 1 << 32]))),
    Hostile("shape-negative", reheaded(_of_first(shape=[-1, 32]))),
    Hostile("shape-deep", reheaded(_of_first(shape=[1] * 100_000))),
    Hostile("dtype-unknown", reheaded(_of_first(dtype="F4096"))),
    Hostile("header-endless", as_bytes(lambda text, data: b"\xff" * 7 + b"\x7f" + text)),
    Hostile("header-nested", as_bytes(lambda text, data: framed(b'{"a":' + b"[" * 900_000, data))),
    Hostile("header-a-list", as_bytes(lambda text, data: framed(b"[]", data))),
)


# ---- serving.properties ----


def _with(**values: object) -> Callable[[Path], None]:
    def write(to: Path) -> None:
        bert_classifier(to)
        properties(to, **values)

    return write


HUGE = "1" + "0" * 400
DIGITS = "7" * 5000
PROPERTIES = (
    Hostile("weight-400", _with(option__scheduling_weight=HUGE), EITHER, answers=ANSWERED),
    Hostile("weight-5000", _with(option__scheduling_weight=DIGITS)),
    Hostile("delay-300", _with(max_batch_delay="9" * 300), EITHER, answers=ANSWERED),
    Hostile("delay-5000", _with(max_batch_delay=DIGITS)),
    Hostile("batch-400", _with(batch_size=HUGE), EITHER, answers=ANSWERED),
    Hostile("queue-400", _with(job_queue_size=HUGE), EITHER, answers=ANSWERED),
    Hostile("queue-5000", _with(job_queue_size=DIGITS)),
    Hostile("memory-400", _with(required_memory_mb=HUGE), EITHER, answers=ANSWERED),
    Hostile("dtype-odd", _with(option__dtype="float32\x00"), REFUSED),
    Hostile("task-odd", _with(option__task="../../etc"), REFUSED),
)
FILES = (*NO_FILES, *SAFETENSORS, *PROPERTIES)
