"""Request bodies: both framings, up to the limit and over it, slow and incomplete ones."""

import threading

import pytest

from tests.container.conftest import Running, Serve
from tests.container.http.raw_client import head

INVOKE = "/models/a/invoke"
MIB = 1 << 20


@pytest.fixture
def small(serve: Serve) -> Running:
    running = serve(MME_MAX_BODY="1MiB")
    running.load("a")
    return running


@pytest.mark.parametrize("size", [0, 1, 65_535, 65_537, MIB])
def test_bodies_up_to_the_limit(small: Running, size: int) -> None:
    body = bytes(size)
    with small.raw() as client:
        assert client.request("POST", INVOKE, body=body).body == body
        client.send(head("POST", INVOKE, "Transfer-Encoding: chunked"), *chunked(body, 50_000))
        assert client.response().body == body
        assert client.request("GET", "/ping").status == 200


def chunked(body: bytes, size: int) -> list[bytes]:
    pieces = [body[start : start + size] for start in range(0, len(body), size)]
    return [b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces] + [b"0\r\n\r\n"]


def test_the_default_limit_lets_25_mib_through(running: Running) -> None:
    running.load("a")
    body = bytes(25 * MIB)
    assert running.http.post(INVOKE, content=body).content == body


def test_a_payload_the_platform_allows_is_never_too_large(serve: Serve) -> None:
    running = serve(MME_MAX_BODY="1MiB", SAGEMAKER_MAX_PAYLOAD_IN_MB="2")
    running.load("a")
    assert running.http.post(INVOKE, content=bytes(2 * MIB)).status_code == 200
    assert running.http.post(INVOKE, content=bytes(2 * MIB + 1)).status_code == 413


@pytest.mark.parametrize("size", [MIB + 1, 40 * MIB])
@pytest.mark.parametrize("framing", ["length", "chunked"])
def test_over_the_limit_the_answer_is_received(small: Running, size: int, framing: str) -> None:
    """Even if the client sends its whole body before it reads."""
    body = bytes(size)
    with small.raw() as client:
        if framing == "length":
            response = client.request("POST", INVOKE, body=body)
        else:
            client.send(head("POST", INVOKE, "Transfer-Encoding: chunked"), *chunked(body, MIB))
            response = client.response()
        assert response.status == 413
        assert response.json()["type"] == "RequestEntityTooLargeException"
        assert response.header("connection") == "close"
        assert client.closed()
    assert small.engine.requests == []
    assert small.http.get("/ping").status_code == 200


def test_expect_100_continue(small: Running) -> None:
    with small.raw() as client:
        client.send(head("POST", INVOKE, "Expect: 100-continue", "Content-Length: 3"))
        assert client.response().status == 100
        client.send(b"abc")
        assert client.response().body == b"abc"
        assert client.request("GET", "/ping").status == 200


def test_expect_100_continue_with_a_body_that_is_too_large(small: Running) -> None:
    with small.raw() as client:
        client.send(head("POST", INVOKE, "Expect: 100-continue", f"Content-Length: {2 * MIB}"))
        assert client.response().status == 413
        assert client.closed()


def test_expect_100_continue_and_an_early_answer(small: Running) -> None:
    """The client may or may not send its body after it: the connection is closed."""
    with small.raw() as client:
        client.send(head("PUT", INVOKE, "Expect: 100-continue", "Content-Length: 5"))
        response = client.response()
        assert (response.status, response.header("connection")) == (405, "close")
        assert client.closed()


def test_an_unread_body_is_not_parsed_as_a_request(small: Running) -> None:
    smuggled = head("DELETE", "/models/a")
    with small.raw() as client:
        assert client.request("PUT", INVOKE, body=smuggled).status == 405
        assert client.request("GET", "/ping", body=smuggled).status == 200
        assert client.request("GET", "/models/a").status == 200


def test_a_slow_body_times_out(serve: Serve) -> None:
    running = serve(MME_REQUEST_TIMEOUT="0.2")
    running.load("a")
    with running.raw() as client:
        client.send(head("POST", INVOKE, "Content-Length: 10"), b"abc")
        response = client.response()
        assert (response.status, response.json()["type"]) == (408, "RequestTimeoutException")
        assert response.header("connection") == "close"


def test_a_million_tiny_chunks(small: Running) -> None:
    with small.raw() as client:
        client.send(head("POST", INVOKE, "Transfer-Encoding: chunked"))
        client.send(b"1\r\nx\r\n" * MIB, b"0\r\n\r\n")
        assert client.response().body == b"x" * MIB


@pytest.mark.parametrize("framing", ["Content-Length: 1000", "Transfer-Encoding: chunked"])
def test_a_client_that_leaves_while_sending(small: Running, framing: str) -> None:
    with small.raw() as client:
        client.send(head("POST", INVOKE, framing), b"3\r\nabc\r\n")
    assert small.http.get("/ping").status_code == 200
    assert small.engine.requests == []


def test_a_client_that_leaves_while_waiting(small: Running) -> None:
    """The request of a client that disconnects is cancelled, every time."""
    for _ in range(20):
        small.engine.waiting.clear()
        small.engine.cancelled.clear()
        with small.raw() as client:
            client.send(head("POST", INVOKE, "Content-Length: 4"), b"wait")
            assert small.engine.waiting.wait(5)
        assert small.engine.cancelled.wait(5)


def test_a_client_that_leaves_after_a_large_body(small: Running) -> None:
    """Reading from the socket pauses while a large body is unread. It must resume, to detect the
    disconnect."""
    body = b"wait " + bytes(100_000)
    all_sent = threading.Event()
    with small.raw() as client:
        for _ in range(20):  # the kernel widens the connection's window
            assert client.request("POST", INVOKE, body=bytes(MIB)).status == 200
        small.call_soon(lambda: all_sent.wait(5))  # so that the server reads all of it at once
        client.send(head("POST", INVOKE, f"Content-Length: {len(body)}"), body)
        all_sent.set()
        assert small.engine.waiting.wait(5)
    assert small.engine.cancelled.wait(5)


def test_a_client_that_leaves_does_not_undo_a_load(small: Running) -> None:
    body = b'{"model_name":"b","url":"/endless"}'
    with small.raw() as client:
        client.send(head("POST", "/models", f"Content-Length: {len(body)}"), body)
        assert small.engine.waiting.wait(5)
    small.call_soon(small.engine.release)
    with small.raw() as client:
        assert client.request("POST", INVOKE, body=b"wait").status == 200
    assert not small.engine.cancelled.is_set()


def test_a_client_that_leaves_with_pipelined_requests_waiting(small: Running) -> None:
    with small.raw() as client:
        waiting = head("POST", INVOKE, "Content-Length: 4") + b"wait"
        client.send(waiting, head("GET", "/ping"))
        assert small.engine.waiting.wait(5)
    assert small.engine.cancelled.wait(5)
