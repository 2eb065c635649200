"""Hostile requests to sound models: parameters and inputs that block, bloat, crash or overflow."""

import base64
import io
import json
import struct
import wave
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests import artifacts
from tests.hostile.inputs.artifacts import properties
from tests.hostile.inputs.graphs import Adding, script
from tests.hostile.inputs.trees import booster

POSITIONS = 512
JSON = "application/json"
INVALID = frozenset({400})
TOO_MUCH = frozenset({400, 413})
BOUNDED = frozenset({200, 400, 413})  # within the limits, or refused
SLOW = BOUNDED | {504}  # within the limits, but more to compute than the time of one request allows


@dataclass(frozen=True, slots=True)
class Attack:
    """`make` creates the body, which may be large, when the case runs."""

    name: str
    model: str
    make: Callable[[], bytes]
    statuses: frozenset[int] = TOO_MUCH
    content_type: str = JSON


# ---- the models that are asked, with as many positions as real ones ----


def zero_shot(directory: Path) -> Path:
    artifacts.bert_nli(directory)
    properties(directory, option__task="zero-shot-classification")
    return directory


def _made(make: Callable[..., Path], **config: Any) -> Callable[[Path], Path]:
    return lambda directory: make(directory, **config)


def _script(directory: Path) -> Path:
    directory.mkdir(parents=True)
    script(Adding())(directory)
    return directory


def _booster(directory: Path) -> Path:
    directory.mkdir(parents=True)
    return booster(directory)


MODELS: dict[str, Callable[[Path], Path]] = {
    "answers": _made(artifacts.bert_qa, max_position_embeddings=POSITIONS),
    "audio": artifacts.wav2vec2,
    "chat": _made(artifacts.gpt2, positions=POSITIONS),
    "classes": artifacts.bert_classifier,
    "entities": _made(artifacts.bert_ner, max_position_embeddings=POSITIONS),
    "masks": artifacts.bert_mlm,
    "numbers": _script,
    "pictures": artifacts.vit,
    "summaries": artifacts.bart,
    "trees": _booster,
    "vectors": _made(artifacts.bert_encoder, max_position_embeddings=POSITIONS),
    "zero-shot": zero_shot,
}


# ---- bodies ----


def asks(inputs: Any, **parameters: Any) -> Callable[[], bytes]:
    return lambda: json.dumps({"inputs": inputs, "parameters": parameters}).encode()


def answers(question: str, context: str, **parameters: Any) -> Callable[[], bytes]:
    return asks({"question": question, "context": context}, **parameters)


def repeated(text: str, count: int, **parameters: Any) -> Callable[[], bytes]:
    return lambda: asks(text * count, **parameters)()


def many(text: str, count: int, **parameters: Any) -> Callable[[], bytes]:
    return lambda: asks([text] * count, **parameters)()


def png(width: int, height: int) -> bytes:
    """A white picture with one bit per pixel; 13,000 × 13,000 pixels are 25 KB."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        check = zlib.crc32(kind + data)
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", check)

    row = b"\0" + b"\xff" * ((width + 7) // 8)
    head = struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0)
    parts = (chunk(b"IHDR", head), chunk(b"IDAT", zlib.compress(row * height)), chunk(b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def tone(seconds: float, rate: int = 16_000) -> bytes:
    """Silence as a WAV file of 16 bits."""
    buffer = io.BytesIO()
    with wave.open(buffer, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(rate)
        file.writeframes(b"\0\0" * int(seconds * rate))
    return buffer.getvalue()


def encoded(make: Callable[[], bytes], count: int, **parameters: Any) -> Callable[[], bytes]:
    """The same file several times in one JSON."""
    return lambda: asks([base64.b64encode(make()).decode()] * count, **parameters)()


def raw(text: str) -> Callable[[], bytes]:
    return text.encode


def npy(shape: str, kind: str = "<f4") -> bytes:
    """The header of a NumPy array without its numbers."""
    text = f"{{'descr': '{kind}', 'fortran_order': False, 'shape': {shape}, }}".ljust(117) + "\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text.encode()
