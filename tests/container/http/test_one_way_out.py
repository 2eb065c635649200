"""Every answer has one log line and one count, also the answer to bytes that are not a request."""

import asyncio
import json
import logging
import tempfile
from collections.abc import Callable
from typing import Any

import pytest

from container.http.protocol import MAX_HEAD_NBYTES, HttpConnection
from container.request_log import RequestLog
from model_handler.engine.factory import create_engine
from model_handler.errors import Draining
from model_handler.logs import JsonFormatter
from model_handler.messages import InferenceRequest
from model_handler.options import EngineOptions
from tests.container.conftest import Running, Serve
from tests.container.http.raw_client import RawClient, head

INVOKE = "/models/a/invoke"


class ImpatientConnection(HttpConnection):
    head_timeout_s = 0.2


@pytest.fixture
def impatient(serve: Serve) -> Running:
    """Limits that a test can reach: 1 MiB of body, 0.2 s for a head, 0.5 s for a body."""
    running = serve(ImpatientConnection, MME_MAX_BODY="1MiB", MME_REQUEST_TIMEOUT="0.5")
    running.load("a")
    running.engine.answers.clear()
    return running


REFUSED = {
    "MalformedRequest": (400, b"\x16\x03\x01\x02\x00\x01\x00"),
    "MalformedRequest CONNECT": (400, b"CONNECT example.com:443 HTTP/1.1\r\n\r\n"),
    "MalformedRequest 1.0": (400, b"POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n"),
    "MalformedRequest chunk": (400, head("POST", INVOKE, "Transfer-Encoding: chunked") + b"zz\r\n"),
    "HeadTooLarge": (431, head("GET", "/ping", "A: " + "a" * MAX_HEAD_NBYTES)),
    "HeadTimeout": (408, b"GET /ping HTTP/1.1\r\nA: "),
    "BodyTooLarge": (413, head("POST", INVOKE, "Content-Length: 2000000", "Expect: 100-continue")),
    "BodyTimeout": (408, head("POST", INVOKE, "Content-Length: 9") + b"abc"),
    "RouteNotFound": (404, head("GET", "/nothing")),
    "MethodNotAllowed": (405, head("DELETE", INVOKE)),
}


@pytest.mark.parametrize("case", REFUSED)
def test_a_refused_request_is_logged_and_counted(
    impatient: Running, caplog: pytest.LogCaptureFixture, case: str
) -> None:
    caplog.set_level(logging.INFO)
    status, sent = REFUSED[case]
    error = case.split()[0]
    with impatient.raw() as client:
        client.send(sent)
        assert client.response().status == status
    (line,) = logged(caplog)
    assert (line["status"], line["error"]) == (status, error)
    assert impatient.engine.answers == [("unknown", error)]


def logged(caplog: pytest.LogCaptureFixture) -> list[dict[str, Any]]:
    return [vars(record) for record in caplog.records if record.getMessage() == "request"]


def test_each_answer_on_a_connection_is_counted_once(running: Running) -> None:
    """The engine counts inferences with their model; other answers count without a model, or as unknown."""
    running.load("a")
    running.engine.answers.clear()
    with running.raw() as client:
        client.send(
            head("POST", INVOKE, "Content-Length: 1") + b"x",
            head("GET", "/ping"),
            head("POST", INVOKE, "Content-Length: 15") + b"raise QueueFull",
            head("GET", "/models/b"),
            b"\0\r\n\r\n",
        )
        statuses = [client.response().status for _ in range(5)]
        assert client.closed()
    assert statuses == [200, 200, 503, 404, 400]
    assert running.engine.answers == [
        ("a", "ok"),
        ("", "ok"),
        ("a", "QueueFull"),
        ("", "ModelNotFound"),
        ("unknown", "MalformedRequest"),
    ]


def test_a_connection_without_a_request_is_closed_silently(
    impatient: Running, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    with impatient.raw() as client:
        assert client.closed()
    assert (logged(caplog), impatient.engine.answers) == ([], [])


def test_the_engine_publishes_these_counts() -> None:
    engine = create_engine(EngineOptions())
    engine.answered("unknown", "HeadTooLarge")
    engine.answered("", "ok")
    text = engine.exposition().decode()
    assert 'mme_requests_total{model="unknown",outcome="HeadTooLarge"} 1.0' in text
    assert 'mme_requests_total{model="",outcome="ok"} 1.0' in text


def test_the_engine_counts_what_it_refuses_while_it_drains() -> None:
    engine = create_engine(EngineOptions())
    engine.drain()
    with pytest.raises(Draining):
        asyncio.run(engine.invoke("a", InferenceRequest(b"")))
    assert 'mme_requests_total{model="a",outcome="Draining"} 1.0' in engine.exposition().decode()


def no_request(client: RawClient) -> object:
    client.send(b"\0\r\n\r\n")
    return client.response()


ASKED: list[Callable[[RawClient], object]] = [
    lambda client: client.request("POST", INVOKE, body=b"x"),
    lambda client: client.request("POST", INVOKE, "X-Amzn-SageMaker-Target-Model: a.tar.gz"),
    lambda client: client.request("POST", INVOKE, "X-Amzn-SageMaker-Target-Model: \x85\xa0"),
    lambda client: client.request("POST", INVOKE, body=b"raise InferenceFailed"),
    lambda client: client.request("GET", "/nothing"),
    no_request,
]


def test_lines_written_to_a_descriptor_equal_those_of_the_formatter(
    running: Running, serve: Serve, caplog: pytest.LogCaptureFixture
) -> None:
    """Field by field and in the same order; values that need escapes go through `logging` on both ways."""
    caplog.set_level(logging.INFO)
    with tempfile.TemporaryFile() as file:
        direct = serve(request_log=RequestLog(file.fileno()))
        for each in (running, direct):
            each.load("a")
            with each.raw() as client:
                for ask in ASKED:
                    ask(client)
        file.seek(0)
        written = [comparable(line) for line in file.read().decode().splitlines()]
    records = [each for each in caplog.records if each.getMessage() == "request"]
    formatted = [comparable(JsonFormatter().format(record)) for record in records]
    assert len(written) == len(ASKED)  # the load's line, and all others except the one with escapes
    assert len(formatted) == len(ASKED) + 2
    escaped = formatted.pop()
    assert escaped in formatted
    assert written == [line for line in formatted if line != escaped]


def comparable(line: str) -> list[tuple[str, object]]:
    document = json.loads(line)
    assert document["ms"] >= 0
    return [(key, value) for key, value in document.items() if key not in ("time", "ms")]
