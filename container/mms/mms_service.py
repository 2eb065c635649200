"""The service that multi-model-server calls in the process of a model: `handle`.

Answers have the statuses and bodies of the container's own HTTP server. multi-model-server answers a load
that raises MemoryError with 507, and one that raises any other exception with 500.
"""

import os
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

from container.http import responses
from container.settings import Settings
from model_handler.device import device as devices
from model_handler.errors import EngineError, InsufficientMemory
from model_handler.messages import InferenceRequest
from model_handler.scripted.in_process import Answer, open_model


class ModelService:
    """One model, from its load to the end of the process."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        self._environ = environ
        self._answer: Answer | None = None

    def handle(self, data: Any, context: Any) -> list[str | bytes] | None:
        """`data`: None in the first call, which loads the model; one request in the following calls."""
        if self._answer is None:
            self._answer = self._opened(context)
        return None if data is None else [_served(self._answer, data[0], context)]

    def _opened(self, context: Any) -> Answer:
        settings = Settings.from_environ(self._environ)
        properties = context.system_properties
        device = _device(settings.device, properties["gpu_id"])
        try:
            return open_model(properties["model_dir"], context.model_name, settings.engine, device)
        except InsufficientMemory as error:
            raise MemoryError(str(error)) from error


handle = ModelService(os.environ).handle


def _device(chosen: str, gpu: int | None) -> str:
    """The GPU that the server assigned, unless MME_DEVICE names one."""
    if chosen in ("auto", "cuda") and gpu is not None and gpu >= 0:
        chosen = f"cuda:{gpu}"
    return devices.parse(chosen).name


def _served(answer: Answer, parts: dict[str, Any], context: Any) -> str | bytes:
    try:
        response = responses.answer(answer(_request(parts, context)))
    except EngineError as error:
        response = responses.error(error)
        context.set_response_status(response.status, HTTPStatus(response.status).phrase, 0)
    context.set_response_content_type(0, response.content_type.decode())
    for name, value in response.headers:
        context.set_response_header(0, name.decode(), value.decode("latin-1"))
    return response.body


def _request(parts: dict[str, Any], context: Any) -> InferenceRequest:
    fields = context.get_all_request_header(0)
    headers = {
        name.lower(): value for name, value in fields.items() if isinstance(value, str)
    }  # a dict contains the headers of a multipart part
    return InferenceRequest(
        _body(parts),
        headers.get("content-type"),
        headers.get("accept"),
        headers.get("x-amzn-sagemaker-custom-attributes"),
        context.get_request_id(0),
        tuple((name.encode("latin-1"), value.encode("latin-1")) for name, value in headers.items()),
    )


def _body(parts: dict[str, Any]) -> bytes:
    body = parts.get("body", parts.get("data", b""))
    return body.encode() if isinstance(body, str) else bytes(body)
