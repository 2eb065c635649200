"""The `context` argument of handlers, with the names of multi-model-server, so that code runs unchanged.

A batch has one request, so `idx` is ignored. A header that could split the response is refused.
"""

import copy
import json
import logging
import re
from pathlib import Path
from typing import Any, Self

from model_handler import response_headers
from model_handler.messages import InferenceRequest, InferenceResponse

log = logging.getLogger(__name__)
CUSTOM_ATTRIBUTES = "x-amzn-sagemaker-custom-attributes"
MANIFEST = "MAR-INF/MANIFEST.json"
_BREAKS = re.compile("[\r\n\0]")
_NAME = re.compile("[!#$%&'*+.^_`|~0-9a-z-]+")  # RFC 9110, 5.6.2
_OUTSIDE_LATIN_1 = re.compile("[^\t\x20-\x7e\x80-\xff]")


class Headers(dict[str, str]):
    """Case-insensitive: names are stored in lower case, because handlers use any spelling."""

    def __getitem__(self, name: str) -> str:
        return super().__getitem__(name.lower())

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and super().__contains__(name.lower())

    def get(self, name: str, default: Any = None) -> Any:
        return super().get(name.lower(), default)


class HandlerContext:
    """The context of one model during its load; `of` makes the context of one request."""

    def __init__(self, model_dir: Path, name: str, gpu: int | None) -> None:
        self.model_name = name
        self.manifest = _manifest(model_dir, name)
        self.system_properties: dict[str, Any] = {
            "model_dir": str(model_dir),
            "gpu_id": gpu,
            "batch_size": 1,
            "server_name": "SageMaker multi-model container",
            "server_version": "1.0",
        }
        self.metrics = HandlerMetrics(name)
        self._begin(InferenceRequest(b""))

    def of(self, request: InferenceRequest) -> Self:
        """A context for one request. It keeps attributes that the code has set on the model's context."""
        one = copy.copy(self)
        one._begin(request)  # noqa: SLF001  a copy of itself
        return one

    def _begin(self, request: InferenceRequest) -> None:
        self._request = request
        self._headers = Headers(
            (name.decode("latin-1"), value.decode("latin-1")) for name, value in request.headers
        )
        self._answers = Headers()
        self._status: tuple[int, str] = (200, "")

    # ---- the request ----

    def get_request_id(self, idx: int = 0) -> str | None:
        return self._request.request_id

    def get_request_header(self, idx: Any, key: str | None = None) -> str | None:
        """Some toolkits pass the key as the only argument."""
        value: str | None = self._headers.get(str(idx if key is None else key))
        return value

    def get_all_request_header(self, idx: int = 0) -> dict[str, str]:
        return copy.copy(self._headers)

    # ---- the answer ----

    def set_response_content_type(self, idx: Any, value: str | None = None) -> None:
        self.set_response_header(0, "content-type", str(idx if value is None else value))

    def get_response_content_type(self, idx: int = 0) -> str | None:
        value: str | None = self._answers.get("content-type")
        return value

    def set_response_header(self, idx: Any, key: Any, value: Any = None) -> None:
        """Raises ValueError for an invalid header, or one that would become several."""
        if value is None:
            key, value = idx, key
        name = str(key).lower()
        if not _NAME.fullmatch(name):
            raise ValueError("a header has a name without spaces, colons and line breaks")
        self._answers[name] = _sendable(str(value))

    def get_response_headers(self, idx: int = 0) -> dict[str, str]:
        return copy.copy(self._answers)

    def set_response_status(self, code: int = 200, phrase: str = "", idx: int = 0) -> None:
        self._status = (code, phrase)

    def set_all_response_status(self, code: int = 200, phrase: str = "") -> None:
        self.set_response_status(code, phrase)

    def get_response_status(self, idx: int = 0) -> tuple[int, str]:
        return self._status

    # ---- multi-model-server's request processor: the same methods under other names ----

    @property
    def request_processor(self) -> "list[HandlerContext]":
        return [self]

    def get_request_property(self, key: str) -> str | None:
        return self.get_request_header(key)

    def get_request_properties(self) -> dict[str, str]:
        return self.get_all_request_header()

    def add_response_property(self, key: str, value: str) -> None:
        self.set_response_header(0, key, value)

    def get_response_header(self, key: str) -> str | None:
        value: str | None = self._answers.get(key)
        return value

    def report_status(self, code: int, reason_phrase: str | None = None) -> None:
        self.set_response_status(code, reason_phrase or "")

    def get_response_status_code(self) -> int:
        return self._status[0]

    def get_response_status_phrase(self) -> str:
        return self._status[1]

    # ---- used by the container, not by handlers ----

    def response(self, body: bytes, content_type: str) -> InferenceResponse:
        """Raises ValueError for a content type that is not a valid header value, and for too many headers."""
        headers = dict(self._answers)
        content_type = _sendable(str(headers.pop("content-type", content_type)))
        attributes = headers.pop(CUSTOM_ATTRIBUTES, None)
        own = tuple(headers.items())
        if limit := response_headers.excess(content_type, attributes, own):
            raise ValueError(f"the code set {limit}")
        return InferenceResponse(body, content_type, attributes, own)


def _sendable(value: str) -> str:
    if _BREAKS.search(value):
        raise ValueError("a header cannot hold a line break")
    if _OUTSIDE_LATIN_1.search(value):
        raise ValueError("a header holds latin-1 text without control characters")
    return value


def _manifest(model_dir: Path, name: str) -> dict[str, Any]:
    """The manifest of the model archiver, if it made the artifact; else one with the name only."""
    file = model_dir / MANIFEST
    if not file.is_file():
        return {"model": {"modelName": name}}
    document = json.loads(file.read_bytes())
    return document if isinstance(document, dict) else {}


class HandlerMetrics:
    """Writes the metrics of handlers to the log, from which a CloudWatch metric filter can read them."""

    def __init__(self, model: str) -> None:
        self._model = model

    def _add(self, name: str, value: float, *_: Any, unit: str = "", **__: Any) -> None:
        log.info(
            "metric", extra={"model": self._model, "metric": name, "value": value, "unit": unit}
        )

    add_counter = add_time = add_size = add_percent = add_error = add_metric = _add
