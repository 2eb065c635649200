"""Errors as HTTP: every class has a status, every body is one bounded line, nothing leaks."""

import json

import hypothesis.strategies as st
import pytest
from hypothesis import given

from container.http import error_replies, responses
from model_handler import errors
from model_handler.errors import InferenceFailed, ModelLoadFailed
from model_handler.messages import InferenceResponse
from tests.container.conftest import Running

EXPECTED = {
    "EngineError": 500,
    "InvalidRequest": 400,
    "UnsupportedContentType": 415,
    "UnacceptableAccept": 406,
    "NotFound": 404,
    "ModelNotFound": 404,
    "ArtifactNotFound": 404,
    "ModelAlreadyLoaded": 409,
    "InsufficientMemory": 507,
    "ModelLoadFailed": 500,
    "InferenceFailed": 500,
    "HandlerRefusal": 500,
    "DeadlineExceeded": 504,
    "Unavailable": 503,
    "QueueFull": 503,
    "Draining": 503,
    "ModelUnloading": 503,
    "WorkerDied": 503,
}


def test_every_error_has_a_status() -> None:
    """A new error class must be added to the table."""
    assert {cls.__name__ for cls in errors.tree()} == set(EXPECTED)
    for cls in errors.tree():
        assert responses.STATUSES[cls][0] == EXPECTED[cls.__name__]
    for refusal in error_replies.ErrorReply.__subclasses__():
        assert 400 <= responses.STATUSES[refusal][0] < 500


@pytest.mark.parametrize(
    ("wanted", "status"),
    [(422, 422), (400, 400), (599, 599), (404, 500), (409, 500), (507, 500), (200, 500), (0, 500)],
)
def test_a_handlers_own_status_is_sent_unless_the_platform_would_act_on_it(
    wanted: int, status: int
) -> None:
    refusal = errors.from_wire("InferenceFailed", "no such customer", wanted)
    response = responses.error(refusal)
    assert response.status == status
    assert json.loads(response.body)["code"] == status


def test_headers_of_an_answer() -> None:
    """Headers set by a model are sent. Headers that frame the message, and invalid ones, are refused."""
    sent = responses.answer(InferenceResponse(b"", "text/plain", headers=(("X-Model", "é"),)))
    assert sent.headers == ((b"x-model", b"\xe9"),)
    for name, value in [
        ("Content-Length", "1"), ("Transfer-Encoding", "chunked"), ("a b", "c"), ("", "c"),
        ("x", "a\r\nb: c"), ("x", "\u2028"),
    ]:  # fmt: skip
        with pytest.raises(InferenceFailed):
            responses.answer(InferenceResponse(b"", "text/plain", headers=((name, value),)))


MANY = tuple((f"x-{number}", "1") for number in range(65))
EXCESSIVE = [
    (InferenceResponse(b"", "text/plain", headers=MANY), "65 response headers, .* limit of 64"),
    (InferenceResponse(b"", "text/plain", headers=(("x", "v" * (16 << 10)),)), "limit of 16384"),
    (InferenceResponse(b"", "text/plain", headers=(("n" * (16 << 10), "v"),)), "limit of 16384"),
    (InferenceResponse(b"", "text/plain", custom_attributes="v" * (17 << 10)), "limit of 16384"),
    (InferenceResponse(b"", "text/" + "p" * (17 << 10)), "limit of 16384"),
]


@pytest.mark.parametrize(("response", "limit"), EXCESSIVE)
def test_too_many_headers_are_an_error_of_the_request(
    response: InferenceResponse, limit: str
) -> None:
    with pytest.raises(InferenceFailed, match=limit):
        responses.answer(response)


def test_headers_up_to_the_limits_are_sent() -> None:
    assert len(responses.answer(InferenceResponse(b"", "a/b", headers=MANY[1:])).headers) == 64
    attributes = "v" * 1024
    sent = responses.answer(InferenceResponse(b"", "text/csv", custom_attributes=attributes))
    assert sent.headers == ((responses.CUSTOM_ATTRIBUTES, attributes.encode()),)


@pytest.mark.parametrize("name", sorted(EXPECTED))
def test_every_error_over_http(running: Running, name: str) -> None:
    """From a load and from an invoke; the connection stays usable."""
    running.load("a")
    status = EXPECTED[name]
    with running.raw() as client:
        load = {"model_name": "b", "url": f"/raise {name}"}
        for response in (
            client.request("POST", "/models/a/invoke", body=f"raise {name}".encode()),
            client.request("POST", "/models", body=json.dumps(load).encode()),
        ):
            assert response.status == status
            assert response.header("content-type") == "application/json"
            assert response.header("retry-after") == ("1" if status == 503 else None)
            document = response.json()
            assert document["code"] == status
            assert document["type"].endswith("Exception")
            assert name in document["message"]
        assert client.request("GET", "/ping").status == 200
    assert [info.name for info in running.engine.models()] == ["a"]


@pytest.mark.parametrize("status", [400, 418, 452, 599])
def test_a_models_own_status_over_http(running: Running, status: int) -> None:
    """Also one without a standard phrase."""
    running.load("a")
    with running.raw() as client:
        body = f"status {status}".encode()
        assert client.request("POST", "/models/a/invoke", body=body).status == status


def test_an_unexpected_error_reveals_nothing(
    running: Running, capsys: pytest.CaptureFixture[str]
) -> None:
    running.load("a")
    with running.raw() as client:
        response = client.request("POST", "/models/a/invoke", body=b"blunder")
        assert client.request("GET", "/ping").status == 200
    assert response.status == 500
    assert response.json() == {
        "code": 500,
        "type": "InternalServerException",
        "message": "internal error",
    }


@given(st.text(max_size=6000))
def test_error_bodies_are_one_bounded_line(message: str) -> None:
    body = responses.error(ModelLoadFailed(message)).body
    assert len(body) <= 2000
    assert b"\n" not in body
    document = json.loads(body)
    assert document["code"] == 500
    assert "\n" not in document["message"]
    assert document["message"].isprintable() or not message.isprintable()


@pytest.mark.parametrize("character", ["x", '"', "ü", "模", "🙂", "\x00", "\\"])
def test_long_messages_use_the_whole_limit(character: str) -> None:
    body = responses.error(ModelLoadFailed("a" + character * 6000 + "z")).body
    assert len(body) <= 2000
    if character != "\x00":
        assert len(body) > 1900


@pytest.mark.parametrize("value", ["a\r\nX-Evil: 1", "a\n", "\r", "a\0b", "€", "\x7f"])
def test_headers_cannot_be_split(value: str) -> None:
    with pytest.raises(InferenceFailed):
        responses.answer(InferenceResponse(b"", "application/json", value))
    with pytest.raises(InferenceFailed):
        responses.answer(InferenceResponse(b"", value))


@given(st.text(alphabet=st.characters(min_codepoint=0x20, max_codepoint=0x7E), max_size=1024))
def test_printable_attributes_are_returned(value: str) -> None:
    response = responses.answer(InferenceResponse(b"", "a/b", value))
    assert response.headers == ((responses.CUSTOM_ATTRIBUTES, value.encode()),)
