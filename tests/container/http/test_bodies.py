"""Request bodies: both framings, up to the limit and over it, slow and incomplete ones."""

import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest

from container.http import body_budget
from tests.container.conftest import Running, Serve
from tests.container.http.raw_client import RawClient, head

INVOKE = "/models/a/invoke"
MIB = 1 << 20
PART = bytes(100_000)


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


# ---- all bodies together ----


@pytest.fixture
def crowded(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> Running:
    """Room for four bodies of 1 MiB, two of them for one model."""
    monkeypatch.setattr(body_budget, "WAIT_S", 0.3)
    running = serve(MME_MAX_BODY="1MiB", MME_BODY_MEMORY="4MiB")
    running.load("a", "b", "c")
    return running


Begin = Callable[..., RawClient]


@pytest.fixture
def begin() -> Iterator[Begin]:
    """Sends a request with a part of its body."""
    with ExitStack() as clients:

        def start(running: Running, model: str, *framing: str, part: bytes = PART) -> RawClient:
            client = clients.enter_context(running.raw())
            length = framing or (f"Content-Length: {MIB}",)
            client.send(head("POST", f"/models/{model}/invoke", *length), part)
            return client

        yield start


def held_bodies(running: Running, begin: Begin, models: str = "aabb") -> list[RawClient]:
    """The server has admitted each: it asked for the body."""
    framing = (f"Content-Length: {MIB}", "Expect: 100-continue")
    clients = []
    for model in models:
        client = begin(running, model, *framing, part=b"")
        assert client.response().status == 100
        client.send(PART)
        clients.append(client)
    return clients


def test_over_the_budget_bodies_are_refused_and_control_gets_through(
    crowded: Running, begin: Begin
) -> None:
    held = held_bodies(crowded, begin)
    refused = begin(crowded, "c")
    response = refused.response()
    assert (response.status, response.header("retry-after")) == (503, "1")
    assert "MME_BODY_MEMORY=4194304" in response.json()["message"]
    assert crowded.http.get("/ping").status_code == 200
    crowded.load("d")
    assert crowded.http.delete("/models/d").status_code == 200
    assert crowded.http.post("/models/c/invoke", content=b"small").content == b"small"
    for client in (*held, refused):
        client.close()
    assert crowded.http.post("/models/c/invoke", content=bytes(MIB)).status_code == 200


def test_one_model_leaves_room_for_others(crowded: Running, begin: Begin) -> None:
    held = held_bodies(crowded, begin, "aa")
    assert begin(crowded, "a").response().status == 503
    assert crowded.http.post("/models/b/invoke", content=bytes(MIB)).status_code == 200
    for client in held:
        client.send(bytes(MIB - 100_000))
        assert client.response().status == 200


def test_a_body_waits_for_room(
    crowded: Running, begin: Begin, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(body_budget, "WAIT_S", 10)
    held = held_bodies(crowded, begin)
    waiting = begin(crowded, "c")
    held[0].send(bytes(MIB - 100_000))
    assert held[0].response().status == 200
    waiting.send(bytes(MIB - 100_000))
    assert waiting.response().status == 200


def test_slow_bodies_end_when_others_wait(
    crowded: Running, begin: Begin, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(body_budget, "WAIT_S", 10)
    monkeypatch.setattr(body_budget, "GRACE_S", 0.0)
    monkeypatch.setattr(body_budget, "SLOW_NBYTES_PER_S", 1 << 40)
    monkeypatch.setattr(body_budget, "CHECK_S", 0.1)
    held = held_bodies(crowded, begin)
    assert crowded.http.post("/models/c/invoke", content=bytes(MIB)).status_code == 200
    for client in held:
        response = client.response()
        assert (response.status, response.header("connection")) == (408, "close")


def test_bodies_that_wait_for_their_answer_count(crowded: Running, begin: Begin) -> None:
    held = []
    for model in ("a", "a", "b", "b"):
        crowded.engine.waiting.clear()
        held.append(begin(crowded, model, part=b"wait " + bytes(MIB - 5)))
        assert crowded.engine.waiting.wait(5)
    assert begin(crowded, "c").response().status == 503
    crowded.call_soon(crowded.engine.release)
    assert [client.response().status for client in held] == [200] * 4
    assert crowded.http.post("/models/c/invoke", content=bytes(MIB)).status_code == 200


def test_bodies_of_unknown_length_are_counted_as_they_grow(serve: Serve, begin: Begin) -> None:
    """Of three that turn out to be large, two have room."""
    running = serve(MME_MAX_BODY="4MiB", MME_BODY_MEMORY="8MiB")
    running.load("a", "b", "c")
    chunk = b"100000\r\n" + bytes(MIB) + b"\r\n"
    chunked = "Transfer-Encoding: chunked"
    held = [begin(running, model, chunked, part=chunk) for model in ("a", "b", "c")]
    for client in held:
        client.send(chunk, b"0\r\n\r\n")
    assert sorted(client.response().status for client in held) in ([200, 200, 200], [200, 200, 503])
    assert running.http.get("/ping").status_code == 200


def test_the_rest_of_a_refused_body_does_not_count(crowded: Running, begin: Begin) -> None:
    """It arrives after the answer; the connection stays usable."""
    held = held_bodies(crowded, begin)
    chunk = b"80000\r\n" + bytes(MIB // 2) + b"\r\n"
    for _ in range(5):
        refused = begin(crowded, "c", "Transfer-Encoding: chunked", part=b"1\r\nx\r\n")
        assert refused.response().status == 503
        refused.send(chunk, b"0\r\n\r\n")
        assert refused.request("GET", "/ping").status == 200
    for client in held:
        client.send(bytes(MIB - len(PART)))
        assert client.response().status == 200
    held_bodies(crowded, begin)
    assert begin(crowded, "c").response().status == 503
