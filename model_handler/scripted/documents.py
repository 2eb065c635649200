"""Requests and answers in the formats of the Hugging Face toolkits: JSON is unchanged, other bodies are
`inputs`."""

import io
from typing import Any

import numpy

from model_handler.artifacts.tasks import InputKind
from model_handler.codecs import media_types, toolkit
from model_handler.codecs.media_types import CSV, JSON
from model_handler.handlers import media
from model_handler.handlers.media import RawBody
from model_handler.messages import InferenceRequest
from model_handler.options import RequestLimits

NPY = "application/x-npy"
_DEFAULTS = RequestLimits()


def decode(body: bytes | str, content_type: str, limits: RequestLimits = _DEFAULTS) -> Any:
    """Raises UnsupportedContentType, and InvalidRequest for a body that does not match its type."""
    if isinstance(body, str):  # already decoded by its charset
        body, content_type = body.encode(), media_types.parse(content_type)[0]
    kind, charset = media_types.parse(content_type)
    if kind == JSON:
        toolkit.check_values(body, limits)
        return toolkit.parse_json(body, charset)
    if kind == NPY:
        return array(body)
    payload = toolkit.decode(InferenceRequest(body, content_type), limits)
    document = {"inputs": _opened(payload.inputs, limits)}
    return document | ({"parameters": payload.parameters} if payload.parameters else {})


def _opened(inputs: Any, limits: RequestLimits) -> Any:
    """Images as Pillow images; audio and unknown binary bodies as bytes."""
    if not isinstance(inputs, RawBody):
        return inputs
    return media.image(inputs.data, limits) if inputs.kind is InputKind.IMAGE else inputs.data


def array(data: bytes) -> Any:
    """An array of numbers. Raises ValueError for pickled objects, which sagemaker-inference unpickles."""
    return numpy.load(io.BytesIO(data), allow_pickle=False)


def encode(answer: Any, accept: str | None) -> tuple[bytes, str]:
    """The answer's bytes and media type. Raises UnacceptableAccept."""
    wanted = media_types.choose(accept, (JSON, CSV, NPY))
    if wanted != NPY:
        return toolkit.encode(answer, wanted)
    stream = io.BytesIO()
    numpy.save(stream, numpy.asarray(answer), allow_pickle=False)
    return stream.getvalue(), NPY
