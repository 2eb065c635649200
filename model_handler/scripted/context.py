"""The `context` that handlers get: the names are those of multi-model-server's, so that code runs as it is.

Batches of one: every `idx` means the one request. A header that could split the response is refused.
"""

import logging
import re
from pathlib import Path
from typing import Any

from model_handler.messages import InferenceRequest, InferenceResponse

log = logging.getLogger(__name__)
CUSTOM_ATTRIBUTES = "x-amzn-sagemaker-custom-attributes"
_BREAKS = re.compile("[\r\n\0]")


class Context:
    """Of one model while it is loaded, and then of one request at a time."""

    def __init__(self, model_dir: Path, name: str, gpu: int | None) -> None:
        self.model_name = name
        self.manifest: dict[str, Any] = {"model": {"modelName": name}}
        self.system_properties: dict[str, Any] = {
            "model_dir": str(model_dir),
            "gpu_id": gpu,
            "batch_size": 1,
            "server_name": "SageMaker multi-model container",
            "server_version": "1.0",
        }
        self.metrics = Metrics(name)
        self._request = InferenceRequest(b"")
        self._headers: dict[str, str] = {}
        self._answers: dict[str, str] = {}
        self._status: int | None = None
        self._reason = ""

    def of(self, request: InferenceRequest) -> "Context":
        """A context for one request; its own answers, the model's properties."""
        one = object.__new__(type(self))
        vars(one).update(vars(self))
        one._request = request
        one._headers = {
            name.decode("latin-1"): value.decode("latin-1") for name, value in request.headers
        }
        one._answers, one._status, one._reason = {}, None, ""
        return one

    @property
    def request_processor(self) -> "list[Context]":
        return [self]

    # ---- the request ----

    def get_request_id(self, idx: int = 0) -> str | None:
        return self._request.request_id

    def get_request_header(self, idx: Any, key: str | None = None) -> str | None:
        """Also with the key alone, as some toolkits ask."""
        return self._headers.get(str(idx if key is None else key).lower())

    get_request_property = get_request_header

    def get_all_request_header(self, idx: int = 0) -> dict[str, str]:
        return dict(self._headers)

    def get_request_properties(self) -> dict[str, str]:
        return dict(self._headers)

    # ---- the answer ----

    def set_response_content_type(self, idx: Any, value: str | None = None) -> None:
        self.set_response_header(0, "Content-Type", str(idx if value is None else value))

    def get_response_content_type(self, idx: int = 0) -> str | None:
        return self._answers.get("content-type")

    def set_response_header(self, idx: Any, key: str, value: str | None = None) -> None:
        """Raises ValueError for what would be more than one header."""
        if value is None:
            key, value = str(idx), key
        if _BREAKS.search(key) or _BREAKS.search(value):
            raise ValueError("a header cannot hold a line break")
        self._answers[key.lower()] = value

    add_response_property = set_response_header

    def get_response_headers(self, idx: int = 0) -> dict[str, str]:
        return dict(self._answers)

    def set_response_status(self, code: int = 200, phrase: str = "", idx: int = 0) -> None:
        self._status, self._reason = code, phrase

    def set_all_response_status(self, code: int = 200, phrase: str = "") -> None:
        self.set_response_status(code, phrase)

    report_status = set_response_status

    def get_response_status(self, idx: int = 0) -> tuple[int, str]:
        return self._status or 200, self._reason

    # ---- ours ----

    def refusal(self) -> tuple[int, str] | None:
        """The status that the code set, where it is an error's."""
        if self._status is None or self._status < 400:
            return None
        return self._status, self._reason

    def response(self, body: bytes, content_type: str) -> InferenceResponse:
        headers = dict(self._answers)
        content_type = headers.pop("content-type", content_type)
        attributes = headers.pop(CUSTOM_ATTRIBUTES, None)
        return InferenceResponse(body, content_type, attributes, tuple(headers.items()))


class Metrics:
    """What handlers count goes to the log: CloudWatch makes metrics of it with a filter."""

    def __init__(self, model: str) -> None:
        self._model = model

    def _add(self, name: str, value: float, *_: Any, unit: str = "", **__: Any) -> None:
        log.info(
            "metric", extra={"model": self._model, "metric": name, "value": value, "unit": unit}
        )

    add_counter = add_time = add_size = add_percent = add_error = add_metric = _add
