"""Artifacts with `class EndpointHandler` in `handler.py`, as on Hugging Face Inference Endpoints."""

import io
from pathlib import Path
from types import ModuleType
from typing import Any

from PIL import Image

from model_handler.codecs import media_types
from model_handler.codecs.media_types import JSON, OCTETS
from model_handler.errors import ModelLoadFailed
from model_handler.messages import InferenceRequest, InferenceResponse
from model_handler.scripted import InputRefused, documents

PICTURES = {f"image/{kind.lower()}": kind for kind in ("PNG", "JPEG", "WEBP", "BMP", "GIF", "TIFF")}


class EndpointHandlerScript:
    def __init__(self, module: ModuleType, root: Path) -> None:
        """Raises ModelLoadFailed if the class is missing, and what its `__init__` raises."""
        handler = getattr(module, "EndpointHandler", None)
        if handler is None:
            raise ModelLoadFailed("handler.py has no class EndpointHandler")
        self._handler = handler(str(root))

    def __call__(self, request: InferenceRequest) -> InferenceResponse:
        try:
            data = _document(request)
        except Exception as error:  # broad: any error here means that the request could not be read
            raise InputRefused from error
        return InferenceResponse(*_encoded(self._handler(data), request.accept))


def _document(request: InferenceRequest) -> dict[str, Any]:
    """Always a dict: another value becomes its `inputs`."""
    document = documents.decode(request.body, request.content_type or JSON)
    return document if isinstance(document, dict) else {"inputs": document}


def _encoded(answer: Any, accept: str | None) -> tuple[bytes, str]:
    if isinstance(answer, bytes | bytearray | memoryview):
        return bytes(answer), _first_named(accept)
    if isinstance(answer, Image.Image):
        kind = media_types.choose(accept, (JSON, *PICTURES))
        if kind != JSON:
            return _picture(answer, PICTURES[kind]), kind
    return documents.encode(answer, accept)


def _first_named(accept: str | None) -> str:
    """The first media type in Accept; application/octet-stream for a wildcard, as the type is unknown."""
    media = (accept or "*").split(",")[0].partition(";")[0].strip().lower()
    return OCTETS if "*" in media else media


def _picture(picture: Image.Image, kind: str) -> bytes:
    stream = io.BytesIO()
    (picture.convert("RGB") if kind == "JPEG" else picture).save(stream, kind)
    return stream.getvalue()
