"""Group J: HTTP robustness. Most requests are written directly to sockets."""

import http.client
import itertools
import json
import time

import psutil
import pytest

from tests.contract import raw
from tests.contract.artifacts import Zoo
from tests.contract.client import JSON, TEXT, Client, check_error, label, path_of
from tests.contract.targets import Target, address

GROWTH_LIMIT = 20 << 20
BODY = json.dumps(TEXT).encode()


@pytest.mark.differs("mms", reason="paths below a route are served like the route")
@pytest.mark.case(83)
@pytest.mark.parametrize(
    "path", ["/", "/nowhere", "/ping/x", "/models/A/x", "/models/A/invoke/x", "//models", "/PING"]
)
def test_unknown_paths_are_404(client: Client, target: Target, path: str) -> None:
    """For every method, with the documented error body."""
    assert client.ping().status_code == 200
    for method in ("GET", "POST", "DELETE"):
        assert raw.exchange(address(target), raw.head(method, path)).status == 404


@pytest.mark.differs("mms", reason="other methods are 404 or served, and 405 has no Allow")
@pytest.mark.case(83)
@pytest.mark.parametrize(
    ("path", "allowed"),
    [
        ("/ping", {"GET", "HEAD"}),
        ("/models", {"GET", "POST"}),
        ("/models/A", {"GET", "DELETE"}),
        ("/models/A/invoke", {"POST"}),
        ("/invocations", {"POST"}),
        ("/metrics", {"GET"}),
    ],
)
def test_wrong_methods_are_405(client: Client, path: str, allowed: set[str]) -> None:
    """With Allow naming at least the documented ones."""
    for method in {"GET", "POST", "PUT", "DELETE", "PATCH", "OPTIONS"} - allowed:
        response = client.request(method, path)
        assert response.status_code == 405, method
        assert {each.strip() for each in response.headers["allow"].split(",")} >= allowed - {"HEAD"}


MALFORMED = (
    b"\r\n\r\n\r\n",
    b"FOO BAR\r\n\r\n",
    b"GET\r\n\r\n",
    b"GET /ping HTTP/9.9\r\nHost: x\r\n\r\n",
    b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\0" * 64,
    b"GET /ping HTTP/1.1\r\nHost: x\r\nBroken\r\n\r\n",
    b"GET /p\0ing HTTP/1.1\r\nHost: x\r\n\r\n",
    b"POST /models HTTP/1.1\r\nHost: x\r\nContent-Length: -5\r\n\r\n",
    b"POST /models HTTP/1.1\r\nHost: x\r\nContent-Length: ten\r\n\r\n",
    b"POST /models HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nContent-Length: 7\r\n\r\n12345",
    b"POST /models HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
    b"POST /models HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n0\r\n\r\n",
)


@pytest.mark.differs("mms", reason="malformed HTTP is dropped without an answer, or served")
@pytest.mark.case(84)
@pytest.mark.parametrize("request_bytes", MALFORMED)
def test_malformed_requests(client: Client, target: Target, request_bytes: bytes) -> None:
    """4xx or a closed connection, never a 2xx; the server keeps serving."""
    with raw.connect(address(target), timeout_s=10) as connection:
        connection.sendall(request_bytes)
        connection.shutdown(1)  # the end of the request
        said = raw.flood(connection, ())
    assert not said or said.startswith(b"HTTP/1.1 4")
    assert client.ping().status_code == 200


def resident(pid: int) -> int:
    return int(psutil.Process(pid).memory_info().rss)


@pytest.mark.case(84)
def test_endless_headers(client: Client, target: Target, pid: int) -> None:
    """64 MiB of header fields are refused long before all of them are received."""
    client.ping()
    before = resident(pid)
    field = b"X-Field: " + b"x" * 8000 + b"\r\n"
    with raw.connect(address(target)) as connection:
        connection.sendall(b"GET /ping HTTP/1.1\r\nHost: x\r\n")
        said = raw.flood(connection, itertools.repeat(field, 8192))
    assert not said or said.startswith(b"HTTP/1.1 4")
    assert resident(pid) - before < GROWTH_LIMIT
    assert client.ping().status_code == 200


@pytest.mark.case(84)
def test_one_endless_header(client: Client, target: Target, pid: int) -> None:
    """64 MiB without a line end, in a field and in the request line."""
    client.ping()
    before = resident(pid)
    for start in (b"GET /ping HTTP/1.1\r\nX-Field: ", b"GET /"):
        with raw.connect(address(target)) as connection:
            connection.sendall(start)
            said = raw.flood(connection, itertools.repeat(b"x" * 65536, 1024))
        assert not said or said.startswith(b"HTTP/1.1 4")
    assert resident(pid) - before < GROWTH_LIMIT
    assert client.ping().status_code == 200


@pytest.mark.case(84)
@pytest.mark.parametrize("path", ["/models", "/models/A/invoke"])
def test_a_million_tiny_chunks(
    client: Client, target: Target, pid: int, zoo: Zoo, path: str
) -> None:
    """They need no more memory than their bytes."""
    client.load("A", zoo.a)
    before = resident(pid)
    with raw.connect(address(target)) as connection:
        fields = {"Transfer-Encoding": "chunked", "Content-Type": "text/plain"}
        connection.sendall(raw.head("POST", path, fields))
        said = raw.flood(connection, [raw.chunk(b"x") * 10_000] * 100 + [raw.LAST_CHUNK])
    assert not said or said.startswith(b"HTTP/1.1 4") or path.endswith("invoke")
    assert resident(pid) - before < GROWTH_LIMIT
    assert label(client.invoke("A")).startswith("A")


@pytest.mark.case(85)
def test_slow_senders(client: Client, target: Target, zoo: Zoo) -> None:
    """50 connections stalled in a head and 50 in a body do not affect other clients."""
    client.load("A", zoo.a)
    half = raw.post(path_of("A") + "/invoke", BODY)
    held = [raw.connect(address(target)) for _ in range(100)]
    for index, connection in enumerate(held):
        connection.sendall(half[:30] if index % 2 else half[:-5])
    for _ in range(5):
        began = time.monotonic()
        assert client.ping().status_code == 200
        assert time.monotonic() - began < 2
        assert label(client.invoke("A")).startswith("A")
    held[0].sendall(half[-5:])
    assert raw.Answer(held[0]).status == 200
    for connection in held:
        connection.close()


@pytest.mark.case(86)
def test_head_ping(client: Client) -> None:
    """200 without a body."""
    response = client.request("HEAD", "/ping")
    assert response.status_code == 200
    assert response.content == b""


@pytest.mark.differs(
    "mms", reason="an error closes the connection without a `Connection: close` header"
)
@pytest.mark.case(87)
def test_a_thousand_requests_on_one_connection(client: Client, target: Target, zoo: Zoo) -> None:
    """Every tenth request is an error; a response that closes the connection must announce it."""
    client.load("A", zoo.a)
    server = address(target)
    connection = http.client.HTTPConnection(*server, timeout=30)
    connection.connect()
    socket = connection.sock
    for index in range(1000):
        path = path_of("nobody" if index % 10 == 9 else "A")
        connection.request("GET", path)
        response = connection.getresponse()
        body = response.read()
        assert response.status == (404 if index % 10 == 9 else 200)
        if response.status == 404:
            check_error(404, response.headers["content-type"], body)
        if response.headers.get("connection", "").lower() != "close":
            assert connection.sock is socket, "the server closed what it had promised to keep"
        socket = connection.sock
    connection.close()


@pytest.mark.case(87)
def test_an_unread_body_does_not_become_a_request(client: Client, target: Target) -> None:
    """After an early 404, the server either reads the rest of the body or closes the connection."""
    smuggled = b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n"
    with raw.connect(address(target)) as connection:
        connection.sendall(raw.post(path_of("nobody") + "/invoke", smuggled * 5000, JSON))
        assert raw.Answer(connection).status == 404
        said = raw.flood(connection, [raw.head("GET", "/ping")])
    assert not said or said.startswith(b"HTTP/1.1 200")
    assert b"mme_" not in said
    assert client.ping().status_code == 200
