"""`handler.py` with an EndpointHandler, as on Hugging Face Inference Endpoints."""

import base64
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from model_handler.artifacts.conventions import Convention
from tests.model_handler.scripted.process import Model, Process, write

Deploy = Callable[..., Model]
ANSWERING = """
import datetime, io, numpy, torch
from PIL import Image
class EndpointHandler:
    def __init__(self, path=""): self.path = path
    def __call__(self, data): return eval(data["inputs"])
"""
SHOWING = """
class EndpointHandler:
    def __init__(self, path=""): pass
    def __call__(self, data):
        inputs = data.pop("inputs", None)
        return {"keys": sorted(data), "type": type(inputs).__name__, "inputs": str(inputs)[:20]}
"""


def picture(kind: str = "PNG") -> bytes:
    stream = io.BytesIO()
    Image.new("RGB", (4, 4), "red").save(stream, kind)
    return stream.getvalue()


@pytest.mark.parametrize(
    ("body", "content_type", "expected"),
    [
        (b'{"inputs": "a", "date": 1, "parameters": {}}', "application/json",
         {"keys": ["date", "parameters"], "type": "str", "inputs": "a"}),
        (b'["a", "b"]', "application/json", {"keys": [], "type": "list", "inputs": "['a', 'b']"}),
        (b'{"query": 1}', None, {"keys": ["query"], "type": "NoneType", "inputs": "None"}),
        ("grün".encode(), "text/plain", {"keys": [], "type": "str", "inputs": "grün"}),
        (b"inputs\na\n", "text/csv", {"keys": [], "type": "list", "inputs": "['a']"}),
        (b"RIFF", "audio/wave", {"keys": [], "type": "bytes", "inputs": "b'RIFF'"}),
        (b"\0", "application/octet-stream", {"keys": [], "type": "bytes", "inputs": "b'\\x00'"}),
        (picture(), "image/png", {"keys": [], "type": "Image", "inputs": "<PIL.Image.Image ima"}),
    ],
    ids=["json", "list", "untyped", "text", "csv", "audio", "octets", "picture"],
)  # fmt: skip
def test_the_document_passed_to_the_handler(
    deploy_handler: Deploy, body: bytes, content_type: str | None, expected: Any
) -> None:
    assert deploy_handler(SHOWING).ask(body, content_type=content_type) == expected


@pytest.mark.parametrize(
    ("body", "content_type", "error"),
    [
        (b"{", "application/json", "InvalidRequest"),
        (b"[" * 100_000, "application/json", "InvalidRequest"),
        (b"no picture", "image/png", "InvalidRequest"),
        (b"<a/>", "text/xml", "UnsupportedContentType"),
    ],
)
def test_unreadable_bodies_do_not_reach_the_handler(
    deploy_handler: Deploy, body: bytes, content_type: str, error: str
) -> None:
    assert deploy_handler(SHOWING).refusal(body, content_type=content_type).error == error


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ("[{'label': 'a', 'score': numpy.float32(0.5)}]", [{"label": "a", "score": 0.5}]),
        ("numpy.arange(3)", [0, 1, 2]),
        ("{'embeddings': torch.ones(1, 2, requires_grad=True)}", {"embeddings": [[1.0, 1.0]]}),
        ("{'half': torch.ones(1, dtype=torch.bfloat16)}", {"half": [1.0]}),
        ("'text'", "text"),
        ("None", None),
        ("{'when': datetime.datetime(2024, 1, 2)}", {"when": "2024-01-02 00:00:00"}),
        ("(1, 2)", [1, 2]),
    ],
)
def test_answers_become_json(deploy_handler: Deploy, expression: str, expected: Any) -> None:
    answer = deploy_handler(ANSWERING).answer({"inputs": expression})
    assert json.loads(answer.body) == expected
    assert answer.content_type == "application/json"


def test_images_in_answers(deploy_handler: Deploy) -> None:
    """Base64 inside JSON, or an image body if the caller accepts one."""
    model = deploy_handler(ANSWERING)
    one = {"inputs": "Image.new('RGBA', (4, 4))"}
    inside = Image.open(io.BytesIO(base64.b64decode(model.ask(one))))
    assert inside.format == "PNG"
    for accept, kind in (("image/png", "PNG"), ("image/jpeg", "JPEG"), ("image/*", "PNG")):
        answer = model.answer(one, accept=accept)
        assert answer.content_type == f"image/{kind.lower()}"
        assert Image.open(io.BytesIO(answer.body)).format == kind
    assert model.refusal(one, accept="audio/wave").error == "UnacceptableAccept"


@pytest.mark.parametrize(
    ("accept", "content_type"),
    [
        (None, "application/octet-stream"),
        ("*/*", "application/octet-stream"),
        ("audio/*", "application/octet-stream"),
        ("audio/wave", "audio/wave"),
        ("audio/wave; q=0.9, */*", "audio/wave"),
    ],
)
def test_bytes_are_returned_unchanged(
    deploy_handler: Deploy, accept: str | None, content_type: str
) -> None:
    answer = deploy_handler(ANSWERING).answer({"inputs": "b'\\x00'"}, accept=accept)
    assert (answer.body, answer.content_type) == (b"\0", content_type)


@pytest.mark.parametrize("expression", ["{'a': object()}", "float('nan')", "{'a': b'1'}", "1 / 0"])
def test_answers_that_cannot_be_encoded_fail(deploy_handler: Deploy, expression: str) -> None:
    """The error names the reason; no object address is in the answer."""
    assert deploy_handler(ANSWERING).refusal({"inputs": expression}).error == "InferenceFailed"


def test_the_handler_gets_the_artifact_directory(deploy_handler: Deploy, tmp_path: Path) -> None:
    assert deploy_handler(ANSWERING).ask({"inputs": "self.path"}) == str(tmp_path / "model")


def test_a_handler_file_without_the_class_fails_the_load(process: Process, tmp_path: Path) -> None:
    root = write(tmp_path / "model", "class Handler: pass", Convention.ENDPOINT_HANDLER)
    assert "no class EndpointHandler" in process.refused_load(root)
