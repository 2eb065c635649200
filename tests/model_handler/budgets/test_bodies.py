"""Bodies that would become much larger are refused before they are decoded."""

import base64
import io
import struct
import wave
import zlib
from collections.abc import Callable

import pytest

from model_handler.handlers.pipeline import PipelineHandler
from model_handler.messages import InferenceRequest
from tests.model_handler.budgets.refusals import refused


def png(width: int, height: int) -> bytes:
    """A black image of a few kilobytes."""
    rows = zlib.compressobj(9)
    data = b"".join(rows.compress(bytes(width // 8 + 2)) for _ in range(height)) + rows.flush()
    header = struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0)

    def chunk(kind: bytes, content: bytes) -> bytes:
        check = struct.pack(">I", zlib.crc32(kind + content))
        return struct.pack(">I", len(content)) + kind + content + check

    signature = b"\x89PNG\r\n\x1a\n"
    return signature + chunk(b"IHDR", header) + chunk(b"IDAT", data) + chunk(b"IEND", b"")


def icon(inner: bytes) -> bytes:
    """An icon that says 16 × 16 in its own header."""
    return struct.pack("<HHHBBBBHHII", 0, 1, 1, 16, 16, 0, 0, 1, 32, len(inner), 22) + inner


@pytest.mark.parametrize("body", [png(13_000, 13_000), icon(png(13_000, 13_000))])
def test_a_large_image_is_not_decoded(
    handlers: Callable[[str], PipelineHandler], body: bytes
) -> None:
    handler = handlers("image-classification")
    refused(handler, InferenceRequest(body, "image/png"))
    refused(handler, {"inputs": base64.b64encode(body).decode()})


def test_many_images_are_counted_together(handlers: Callable[[str], PipelineHandler]) -> None:
    one = base64.b64encode(png(5000, 4900)).decode()
    message = refused(handlers("image-classification"), {"inputs": [one] * 8})
    assert "MME_MAX_PIXELS" in message


def test_a_long_recording_is_not_decoded(handlers: Callable[[str], PipelineHandler]) -> None:
    stream = io.BytesIO()
    with wave.open(stream, "wb") as file:
        file.setparams((1, 1, 16_000, 0, "NONE", ""))
        file.writeframes(bytes(16_000 * 1800))
    handler = handlers("automatic-speech-recognition")
    for body in (InferenceRequest(stream.getvalue(), "audio/wav"),):
        assert "MME_MAX_AUDIO" in refused(handler, body)


@pytest.mark.parametrize("value", [b"[]", b"{}", b"0"])
def test_json_of_many_values_is_not_parsed(
    handlers: Callable[[str], PipelineHandler], value: bytes
) -> None:
    body = b'{"inputs":[' + b",".join([value] * 5_000_000) + b"]}"
    for media in ("application/json", None):
        message = refused(handlers("text-classification"), InferenceRequest(body, media))
        assert "MME_MAX_VALUES" in message
