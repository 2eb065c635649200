"""`decode` and `encode` with the toolkit's signatures. Pickled objects in npy bodies are refused."""

from typing import Any

from model_handler.scripted import documents

from . import content_types


def decode(content: Any, content_type: str = content_types.JSON) -> Any:
    return documents.decode(content, content_type)


def encode(content: Any, content_type: str = content_types.JSON) -> str | bytes:
    body, media = documents.encode(content, content_type)
    return body if media == content_types.NPY else body.decode()


def decode_json(content: Any) -> Any:
    return decode(content, content_types.JSON)


def decode_csv(content: Any) -> Any:
    return decode(content, content_types.CSV)


def decode_image(content: bytes) -> Any:
    return decode(content, content_types.X_IMAGE)


def decode_audio(content: bytes) -> Any:
    return decode(content, content_types.X_AUDIO)


def encode_json(content: Any) -> str | bytes:
    return encode(content, content_types.JSON)


def encode_csv(content: Any) -> str | bytes:
    return encode(content, content_types.CSV)
