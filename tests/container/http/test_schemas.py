"""JSON bodies and queries are accepted, or refused in one line."""

import contextlib
import json

import hypothesis.strategies as st
import pytest
from hypothesis import given

from container.http import names, schemas
from container.http.schemas import LoadRequest, Page
from model_handler.errors import InvalidRequest
from model_handler.model import ModelInfo
from tests.container.conftest import Running

BAD_BODIES = [
    b"",
    b"{bad",
    b"[]",
    b'"x"',
    b"null",
    b"1",
    b'{"model_name":"a","url":"/x",}',
    b'{"model_name":"a"}',
    b'{"url":"/x"}',
    b'{"model_name":"","url":"/x"}',
    b'{"model_name":"a","url":""}',
    b'{"model_name":null,"url":"/x"}',
    b'{"model_name":1,"url":"/x"}',
    b'{"model_name":["a"],"url":"/x"}',
    b'{"model_name":"a","url":{}}',
    b'{"model_name":"a/b","url":"/x"}',
    b'{"model_name":"a\\\\b","url":"/x"}',
    b'{"model_name":"..","url":"/x"}',
    b'{"model_name":".","url":"/x"}',
    b'{"model_name":"a\\u0000","url":"/x"}',
    b'{"model_name":"a\\n","url":"/x"}',
    b'{"model_name":"\\ud800","url":"/x"}',
    b'{"model_name":"\xff","url":"/x"}',
    b'{"model_name":"a","url":"/x\\u0000"}',
    b'{"model_name":"a","url":"' + b"/x" * 3000 + b'"}',
    b'{"model_name":"' + b"n" * 256 + b'","url":"/x"}',
    b'\xef\xbb\xbf{"model_name":"a","url":"/x"}',
    b'{"model_name":"a","url":"/x","deep":' + b"[" * 100_000,
    b'{"model_name":"a","url":"/x"}{}',
]


@pytest.mark.parametrize("body", BAD_BODIES, ids=lambda body: repr(body[:40]))
def test_bad_load_bodies_are_400(running: Running, body: bytes) -> None:
    response = running.http.post("/models", content=body)
    assert response.status_code == 400
    assert response.json()["type"] == "InvalidRequestException"
    assert running.engine.models() == []


@pytest.mark.parametrize(
    "content_type", [None, "application/json; charset=utf-8", "text/plain", "?"]
)
def test_the_content_type_of_a_load_does_not_matter(
    running: Running, content_type: str | None
) -> None:
    headers = {} if content_type is None else {"Content-Type": content_type}
    body = json.dumps({"model_name": "a", "url": "/x", "more": [1, {}]})
    assert running.http.post("/models", content=body, headers=headers).status_code == 200


def test_a_load_body_has_a_limit_of_its_own(running: Running) -> None:
    response = running.http.post("/models", content=b" " * (2 << 20))
    assert response.status_code == 413
    assert running.http.get("/ping").status_code == 200


@given(st.binary(max_size=200))
def test_any_bytes_are_a_load_or_refused(body: bytes) -> None:
    with contextlib.suppress(InvalidRequest):
        assert isinstance(schemas.load_request(body), LoadRequest)


@given(st.text(max_size=300))
def test_any_text_is_a_name_or_refused(name: str) -> None:
    """An accepted name survives encoding and decoding in a path."""
    body = json.dumps({"model_name": name, "url": "/x"}).encode()
    try:
        accepted = schemas.load_request(body).model_name
    except InvalidRequest:
        return
    segment = "".join(f"%{byte:02X}" for byte in accepted.encode())
    assert names.from_segment(segment.encode()) == accepted == name


@given(st.binary(max_size=100))
def test_any_query_is_a_page_or_refused(query: bytes) -> None:
    with contextlib.suppress(InvalidRequest):
        assert 1 <= schemas.page(query).limit <= 100


@given(st.text(min_size=1, max_size=50))
def test_tokens_round_trip(name: str) -> None:
    token = schemas.token(name)
    assert schemas.page(f"next_page_token={token}".encode()).after == name


# ---- pages ----


def models(count: int) -> list[ModelInfo]:
    return [ModelInfo(f"m{number:03}", "/x", None) for number in range(count)]


@pytest.mark.parametrize(
    ("count", "limit", "sizes"),
    [
        (0, 100, [0]),
        (1, 1, [1]),
        (3, 1, [1, 1, 1]),
        (99, 100, [99]),
        (100, 100, [100]),
        (101, 100, [100, 1]),
        (250, 100, [100, 100, 50]),
    ],
)
def test_pages_hold_each_model_once(count: int, limit: int, sizes: list[int]) -> None:
    """A list that ends with a full page has no token: n == limit is one page."""
    after: str | None = None
    seen: list[str] = []
    for position, size in enumerate(sizes):
        chosen, token = schemas.cut(models(count), Page(limit, after))
        assert len(chosen) == size
        assert (token is None) == (position == len(sizes) - 1)
        seen += [model.name for model in chosen]
        after = schemas.page(f"next_page_token={token}".encode()).after if token else None
    assert seen == [model.name for model in models(count)]


def test_a_token_survives_the_model_it_names() -> None:
    _, token = schemas.cut(models(3), Page(2))
    wanted = schemas.page(f"next_page_token={token}".encode())
    chosen, _ = schemas.cut([model for model in models(3) if model.name != "m001"], wanted)
    assert [model.name for model in chosen] == ["m002"]


def test_pages_over_http(running: Running) -> None:
    running.load("a", "b", "c")
    first = running.http.get("/models", params={"limit": 2}).json()
    assert [model["modelName"] for model in first["models"]] == ["a", "b"]
    parameters = {"limit": "2", "next_page_token": first["nextPageToken"], "unknown": "x"}
    second = running.http.get("/models", params=parameters).json()
    assert [model["modelName"] for model in second["models"]] == ["c"]
    assert "nextPageToken" not in second
    exact = running.http.get("/models", params={"limit": 3}).json()
    assert "nextPageToken" not in exact


@pytest.mark.parametrize(
    ("query", "status"),
    [
        ("limit=0", 400),
        ("limit=abc", 400),
        ("limit=-1", 400),
        ("limit=", 400),
        ("limit=1.5", 400),
        ("limit=%D9%A1", 400),
        ("limit=1_0", 400),
        ("limit=99999999999999999999", 400),
        ("limit=1000", 200),
        ("limit=1&limit=abc", 200),
        ("next_page_token=bogus", 400),
        ("next_page_token=0", 400),
        ("next_page_token=%ff", 400),
        ("next_page_token=AAAAAA==", 400),
        ("next_page_token=", 200),
        ("&&&===&", 200),
        ("x=1&" * 200, 400),
    ],
)
def test_limits_and_tokens(running: Running, query: str, status: int) -> None:
    running.load("a")
    response = running.http.get(f"/models?{query}")
    assert response.status_code == status
    if status == 200:
        assert "nextPageToken" not in response.json()
