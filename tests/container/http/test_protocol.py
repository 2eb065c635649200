"""Invalid HTTP, and valid HTTP in large amounts."""

import inspect
import threading

import pytest
import uvicorn
from uvicorn.server import ServerState

from container.http.protocol import MAX_HEAD_NBYTES, HttpConnection
from container.http.request import Request
from container.http.server import configuration
from tests.container.conftest import Running, Serve
from tests.container.http.raw_client import head

MIB = 1 << 20


def test_a_thousand_requests_on_one_connection(running: Running) -> None:
    """Errors leave it usable."""
    running.load("a")
    with running.raw() as client:
        for number in range(1000):
            path = "/models/a/invoke" if number % 3 else "/models/none/invoke"
            body = b"%d" % number
            response = client.request("POST", path, body=body)
            assert response.status == (200 if number % 3 else 404)
            assert response.body == body or response.status == 404


def test_what_is_used_of_uvicorn_is_there() -> None:
    """uvicorn's server creates a protocol object per connection and shares state with it, by interfaces that
    are not public. pyproject.toml therefore limits the version; a new version has to pass this test."""
    state = {"connections", "tasks", "default_headers", "total_requests"}
    assert state <= vars(ServerState()).keys()
    config = configuration(nothing, "127.0.0.1", 0)
    config.load()
    assert (config.loaded_app, config.http_protocol_class) == (nothing, HttpConnection)
    parameters = inspect.signature(HttpConnection).parameters
    source = inspect.getsource(uvicorn.Server.startup)
    assert all(f"{name}=" in source for name in parameters)
    assert "connection.shutdown()" in inspect.getsource(uvicorn.Server.shutdown)
    for overridden in ("startup", "shutdown", "handle_exit"):
        assert overridden in vars(uvicorn.Server)
    assert {"server_state", "should_exit", "config"} <= vars(uvicorn.Server(config)).keys()


async def nothing(request: Request) -> None:
    """An application without answers."""


@pytest.mark.parametrize(
    "garbage",
    [
        b"\r\n\r\n\0\0\0\r\n\r\n",
        b"GET\r\n\r\n",
        b"GET /ping HTTP/9.9\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"GET /ping HTTP/1.1\r\nNo colon\r\n\r\n",
        b"GET /ping HTTP/1.1\r\nContent-Length: x\r\n\r\n",
        b"POST /ping HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
        b"POST /ping HTTP/1.1\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"POST /ping HTTP/1.1\r\nContent-Length: -1\r\n\r\n",
        b"POST /ping HTTP/1.1\r\nContent-Length: 99999999999999999999999\r\n\r\n",
        b"CONNECT example.com:443 HTTP/1.1\r\n\r\n",
    ],
)
def test_garbage_is_a_400_in_json(running: Running, garbage: bytes) -> None:
    with running.raw() as client:
        client.send(garbage)
        response = client.response()
        assert response.status == 400
        assert response.json()["code"] == 400
        assert response.header("connection") == "close"
        assert client.closed()
    assert running.http.get("/ping").status_code == 200


def test_a_broken_chunk_ends_the_request(running: Running) -> None:
    running.load("a")
    with running.raw() as client:
        client.send(head("POST", "/models/a/invoke", "Transfer-Encoding: chunked"), b"zz\r\n")
        assert client.response().status == 400
        assert client.closed()
    assert running.engine.requests == []


def test_garbage_after_a_request_is_refused_after_its_answer(running: Running) -> None:
    running.load("a")
    with running.raw() as client:
        request = head("POST", "/models/a/invoke", "Content-Length: 4") + b"wait"
        client.send(request, b"\0garbage\0")
        assert running.engine.waiting.wait(5)
        client.send(b"more")
        running.call_soon(running.engine.release)
        response = client.response()
        assert (response.status, response.body) == (200, b"wait")
        refused = client.response()
        assert (refused.status, refused.header("connection")) == (400, "close")
        assert client.closed()


ENDLESS = [
    (b"GET /", b"a" * 4096),
    (b"GET /ping HTTP/1.1\r\nA: ", b"a" * 4096),
    (b"GET /ping HTTP/1.1\r\nA", b"a" * 4096),
    (b"GET /ping HTTP/1.1\r\n", b"A: b\r\n" * 500),
    (b"POST /ping HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nA: ", b"a" * 4096),
    (b"POST /ping HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n", b"A: b\r\n" * 500),
    (b"POST /ping HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n1;", b"a" * 4096),
]


@pytest.mark.parametrize(("start", "more"), ENDLESS, ids=lambda part: repr(part[-12:]))
def test_endless_heads_are_refused(running: Running, start: bytes, more: bytes) -> None:
    """They arrive in pieces, so that a limit on one read does not suffice."""
    with running.raw() as client:
        client.send(start)
        assert client.send_until_refused(more, 64 * MIB) < 16 * MIB
    assert running.http.get("/ping").status_code == 200


def test_a_head_that_is_too_large_gets_431(running: Running) -> None:
    with running.raw() as client:
        client.send(head("GET", "/ping", "A: " + "a" * MAX_HEAD_NBYTES))
        response = client.response()
        assert (response.status, response.header("connection")) == (431, "close")
        assert response.json()["type"] == "RequestHeaderFieldsTooLargeException"
    with running.raw() as client:
        client.send(head("GET", "/ping", "A: " + "a" * (MAX_HEAD_NBYTES - 100)))
        assert client.response().status == 200


def test_pipelined_requests_are_answered_in_order(running: Running) -> None:
    running.load("a")
    with running.raw() as client:
        posts = [
            head("POST", "/models/a/invoke", "Content-Length: 1") + b"%d" % n for n in range(9)
        ]
        client.send(*posts)
        assert [client.response().body for _ in posts] == [b"%d" % n for n in range(9)]


def test_a_flood_of_pipelined_requests_is_answered_in_order(running: Running) -> None:
    """Reading pauses while many wait: thousands fit into one read of the socket."""
    running.load("a")
    bodies = [b"%d" % number for number in range(3000)]
    flood = [head("POST", "/models/a/invoke", f"Content-Length: {len(b)}") + b for b in bodies]
    with running.raw() as client:
        client.send(head("POST", "/models/a/invoke", "Content-Length: 4"), b"wait")
        assert running.engine.waiting.wait(5)
        sender = threading.Thread(target=client.send, args=flood)
        sender.start()
        running.call_soon(running.engine.release)
        assert client.response().body == b"wait"
        assert [client.response().body for _ in bodies] == bodies
        sender.join()
        assert client.request("GET", "/ping").status == 200


def test_a_large_body_behind_other_requests(running: Running) -> None:
    """Reading pauses until its turn."""
    running.load("a")
    body = bytes(2 * MIB)
    with running.raw() as client:
        client.send(head("POST", "/models/a/invoke", "Content-Length: 4"), b"wait")
        assert running.engine.waiting.wait(5)
        large = head("POST", "/models/a/invoke", f"Content-Length: {len(body)}")
        sender = threading.Thread(target=client.send, args=(large, body))
        sender.start()
        running.call_soon(running.engine.release)
        assert client.response().body == b"wait"
        assert client.response().body == body
        sender.join()


def test_http_1_0(running: Running) -> None:
    with running.raw() as client:
        client.send(b"GET /ping HTTP/1.0\r\n\r\n")
        assert client.response().status == 200
        assert client.closed()


def test_http_1_0_has_no_chunks(running: Running) -> None:
    """RFC 9112, 6.1: the framing of such a request is invalid."""
    running.load("a")
    with running.raw() as client:
        start = b"POST /models/a/invoke HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n"
        client.send(start, b"1\r\nx\r\n0\r\n\r\n")
        response = client.response()
        assert (response.status, response.header("connection")) == (400, "close")
        assert client.closed()
    assert running.engine.requests == []


def test_an_upgrade_is_served_without_upgrading(running: Running) -> None:
    """With its body; the connection stays usable. Clients that prefer HTTP/2 send such requests."""
    running.load("a")
    for protocol in ("h2c", "websocket"):
        with running.raw() as client:
            upgrade = ("Connection: Upgrade", f"Upgrade: {protocol}", "Content-Length: 6")
            client.send(head("POST", "/models/a/invoke", *upgrade), b"abc")
            client.send(b"def")
            response = client.response()
            assert (response.status, response.body) == (200, b"abcdef")
            assert client.request("GET", "/ping").status == 200


def test_answers_wait_for_a_client_that_does_not_read(running: Running) -> None:
    """No request is started while the answers before it fill the socket's buffers."""
    running.load("a")
    bodies = [bytes([number]) * MIB for number in range(24)]
    requests = [head("POST", "/models/a/invoke", f"Content-Length: {MIB}") + b for b in bodies]
    with running.raw() as client:
        sender = threading.Thread(target=client.send, args=requests)
        sender.start()
        assert running.http.get("/ping").status_code == 200
        assert len(running.engine.requests) < len(bodies)
        assert [client.response().body for _ in bodies] == bodies
        sender.join()


class ImpatientConnection(HttpConnection):
    head_timeout_s = 0.1
    discard_timeout_s = 0.1


def test_the_rest_of_an_unread_body_has_a_time_limit(serve: Serve) -> None:
    running = serve(ImpatientConnection)
    with running.raw() as client:
        client.send(head("PUT", "/ping", "Content-Length: 10"), b"abc")
        response = client.response()
        assert (response.status, response.header("connection")) == (405, None)
        assert client.closed()


def test_a_slow_head_times_out(serve: Serve) -> None:
    """On the first request of a connection and on later ones."""
    running = serve(ImpatientConnection)
    slow = b"GET /ping HTTP/1.1\r\nA: "
    with running.raw() as client:
        assert client.closed()
    with running.raw() as client:
        client.send(slow)
        assert client.response().status == 408
        assert client.closed()
    with running.raw() as client:
        assert client.request("GET", "/ping").status == 200
        client.send(slow)
        assert client.response().status == 408
        assert client.closed()


def test_fifty_slow_callers_do_not_delay_ping(serve: Serve) -> None:
    running = serve()
    slow = [running.raw() for _ in range(50)]
    for client in slow:
        client.send(b"POST /models/a/invoke HTTP/1.1\r\nContent-Length: 100\r\nX: ")
    assert running.http.get("/ping").elapsed.total_seconds() < 1
    for client in slow:
        client.close()
