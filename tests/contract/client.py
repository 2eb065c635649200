"""The API calls of the contract. Every response other than 2xx must have the documented error body."""

import json
import re
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from urllib.parse import quote

import httpx

JSON = "application/json"
TARGET = "X-Amzn-SageMaker-Target-Model"
ERROR_LIMIT_NBYTES = 2000
PLATFORM_LIMIT_S = 60.0  # the platform's time limit for a response
TEXT = {"inputs": "the quick brown fox"}
TEXTS = ("a fox", "the lazy dog", "Berlin on Monday", "extra time", "two cats and a garden", "soup")


class Client:
    """A client with a connection pool. Thread-safe."""

    def __init__(self, base_url: str, *, timeout_s: float = PLATFORM_LIMIT_S + 10) -> None:
        limits = httpx.Limits(max_connections=None, max_keepalive_connections=64)
        self._http = httpx.Client(
            base_url=base_url, timeout=timeout_s, limits=limits, trust_env=False
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        tb: TracebackType | None,
    ) -> None:
        self._http.close()

    def request(self, method: str, path: str, **options: Any) -> httpx.Response:
        response = self._http.request(method, path, **options)
        if not response.is_success:
            check_error(
                response.status_code, response.headers.get("content-type"), response.content
            )
        return response

    # ---- the verbs ----

    def ping(self) -> httpx.Response:
        return self.request("GET", "/ping")

    def list(self, **query: object) -> httpx.Response:
        return self.request("GET", "/models", params=query)

    def describe(self, name: str) -> httpx.Response:
        return self.request("GET", path_of(name))

    def load(
        self, name: str, url: str | Path, *, target: str | None = None, **more: object
    ) -> httpx.Response:
        headers = {} if target is None else {TARGET: target}
        document = {"model_name": name, "url": str(url), **more}
        return self.request("POST", "/models", json=document, headers=headers)

    def unload(self, name: str, *, target: str | None = None) -> httpx.Response:
        headers = {} if target is None else {TARGET: target}
        return self.request("DELETE", path_of(name), headers=headers)

    def invoke(
        self,
        name: str,
        body: object = TEXT,
        *,
        content_type: str | None = JSON,
        **headers: str,
    ) -> httpx.Response:
        """`body`: bytes and text are sent unchanged, other values as JSON. `X_Y="v"` sends `X-Y: v`."""
        content = body if isinstance(body, bytes | str) else json.dumps(body)
        fields = {name.replace("_", "-"): value for name, value in headers.items()}
        if content_type is not None:
            fields["Content-Type"] = content_type
        return self.request("POST", f"{path_of(name)}/invoke", content=content, headers=fields)

    # ---- shortcuts ----

    def names(self) -> set[str]:
        return {entry["modelName"] for page in self.pages(limit=100) for entry in page["models"]}

    def pages(self, limit: int) -> Iterator[dict[str, Any]]:
        query: dict[str, object] = {"limit": limit}
        while True:
            page = self.list(**query).json()
            yield page
            if "nextPageToken" not in page:
                return
            query["next_page_token"] = page["nextPageToken"]

    def clear(self) -> None:
        """Unload all models."""
        for name in self.names():
            assert self.unload(name).status_code in (200, 404)

    def gauges(self) -> dict[str, float]:
        """All samples of /metrics by name and labels, as written there; 0 for all others, and for a server
        without metrics."""
        response = self.request("GET", "/metrics")
        text = response.text if response.is_success else ""
        samples = re.findall(r"(?m)^(\w+(?:\{.*\})?) (\S+)$", text)
        return defaultdict(float, {name: float(value) for name, value in samples})


def path_of(name: str) -> str:
    return f"/models/{quote(name, safe='')}"


def label(response: httpx.Response) -> str:
    """The winning label of a text classification."""
    return answer(response)[0]


def answer(response: httpx.Response) -> tuple[str, float]:
    """The winning label and its score, rounded to a precision that does not depend on the batch."""
    assert response.status_code == 200, response.text
    (best,) = response.json()
    return str(best["label"]), round(float(best["score"]), 3)


def check_error(status: int, content_type: str | None, body: bytes) -> None:
    """Assert a body `{"code", "type", "message"}` with a short message on one line; code is the status."""
    assert content_type is not None, (status, body)
    assert content_type.partition(";")[0] == JSON, (status, content_type, body)
    assert len(body) <= ERROR_LIMIT_NBYTES
    error = json.loads(body)
    assert error.keys() == {"code", "type", "message"}
    assert error["code"] == status
    assert error["type"]
    assert error["message"]
    assert "\n" not in error["message"]
    assert "Traceback" not in error["message"]
