"""Group D: invoke."""

import base64
import http.client
import io
import itertools
import json
import random
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from PIL import Image

from tests.contract import raw
from tests.contract.artifacts import Zoo, tokens
from tests.contract.client import TEXT, TEXTS, Client, answer, label, path_of
from tests.contract.targets import RUNNING, WAITING, Target, address
from tests.contract.waiting import until

OCTETS, PLAIN = "application/octet-stream", "text/plain"
MIB = 1 << 20
BODY = json.dumps(TEXT).encode()


def picture() -> bytes:
    """A PNG of noise: any changed byte makes it invalid."""
    pixels = random.Random(5).randbytes(30 * 30 * 3)
    stream = io.BytesIO()
    Image.frombytes("RGB", (30, 30), pixels).save(stream, format="PNG")
    return stream.getvalue()


def about(scored: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The expected response within a tolerance: some versions of PyTorch differ in the last digit."""
    return [each | {"score": pytest.approx(each["score"], rel=1e-5)} for each in scored]


@pytest.mark.case(31)
@pytest.mark.parametrize("media", [OCTETS, "image/png"])
def test_binary_bodies_arrive_unchanged(client: Client, zoo: Zoo, media: str) -> None:
    """A picture as raw bytes is the same to the model as the picture in JSON."""
    client.load("vision", zoo.vision)
    as_json = client.invoke("vision", {"inputs": base64.b64encode(picture()).decode()})
    as_bytes = client.invoke("vision", picture(), content_type=media)
    assert as_json.status_code == as_bytes.status_code == 200
    assert as_bytes.json() == about(as_json.json())


@pytest.mark.case(31)
@pytest.mark.parametrize(
    "text", ["x", "a\0b\x01\x1f", "line\r\n\r\nGET / HTTP/1.1\r\n\r\n", "é 模型 🦊", " "]
)
def test_text_bodies_arrive_unchanged(client: Client, zoo: Zoo, text: str) -> None:
    """A text generator repeats its prompt: control characters and line ends included."""
    client.load("slow", zoo.slow)
    as_text = client.invoke("slow", text.encode(), content_type=PLAIN)
    assert as_text.status_code == 200, as_text.text
    assert as_text.json()[0]["generated_text"].startswith(text)


@pytest.mark.case(31)
@pytest.mark.parametrize("body", [b"", b"\0", b"\xff\xfe\xfd", random.Random(1).randbytes(70_000)])
def test_bodies_that_are_no_input(client: Client, zoo: Zoo, body: bytes) -> None:
    """Empty, one byte, random: the model's error, on a connection that stays usable."""
    client.load("vision", zoo.vision)
    assert client.invoke("vision", body, content_type=OCTETS).status_code in (400, 415)
    assert client.invoke("vision", picture(), content_type=OCTETS).status_code == 200


@pytest.mark.case(32)
def test_25_mib(client: Client, zoo: Zoo) -> None:
    """The largest body that the platform forwards reaches the model."""
    client.load("vision", zoo.vision)
    padding = b"\0" * (25 * MIB - len(picture()))
    response = client.invoke("vision", picture() + padding, content_type=OCTETS)
    assert response.status_code != 413
    assert response.status_code == 200 or 400 <= response.status_code < 500
    client.load("A", zoo.a)
    document = {"inputs": "fox", "ignored": "x" * (25 * MIB - 100)}
    assert client.invoke("A", document).status_code in (200, 400)


@pytest.mark.differs("mms", reason="413 without a body, so the caller gets no message")
@pytest.mark.case(33)
def test_over_limit(client: Client, target: Target, zoo: Zoo) -> None:
    """413 with an error body, also without a Content-Length; the server keeps serving."""
    client.load("A", zoo.a)
    path = path_of("A") + "/invoke"
    announced = raw.head("POST", path, {"Content-Length": 40 * MIB})
    assert raw.exchange(address(target), announced).status == 413
    with raw.connect(address(target)) as connection:
        connection.sendall(raw.head("POST", path, {"Transfer-Encoding": "chunked"}))
        said = raw.flood(connection, itertools.repeat(raw.chunk(b"x" * MIB), 40))
    assert said.startswith(b"HTTP/1.1 413") or not said
    assert label(client.invoke("A")).startswith("A")


@pytest.mark.differs("mms", reason="413 without a body")
@pytest.mark.case(33)
def test_over_limit_to_a_client_that_sends_on(client: Client, zoo: Zoo) -> None:
    """A client that writes its whole body before it reads gets the 413 too."""
    client.load("A", zoo.a)
    assert client.invoke("A", b"x" * (33 * MIB), content_type=PLAIN).status_code == 413
    assert label(client.invoke("A")).startswith("A")


@pytest.mark.case(34)
def test_chunked(client: Client, target: Target, zoo: Zoo) -> None:
    """Chunks of one byte each are one body."""
    client.load("A", zoo.a)
    fields = {"Transfer-Encoding": "chunked", "Content-Type": "application/json"}
    chunks = b"".join(raw.chunk(BODY[at : at + 1]) for at in range(len(BODY)))
    head = raw.head("POST", path_of("A") + "/invoke", fields)
    answer = raw.exchange(address(target), head, chunks, raw.LAST_CHUNK)
    assert answer.status == 200
    assert json.loads(answer.body) == client.invoke("A").json()


@pytest.mark.case(34)
def test_expect_100_continue(client: Client, target: Target, zoo: Zoo) -> None:
    """The server requests the body before it is sent, and responds as usual."""
    client.load("A", zoo.a)
    fields = {"Expect": "100-continue", "Content-Length": len(BODY)}
    fields |= {"Content-Type": "application/json"}
    with raw.connect(address(target)) as connection:
        connection.sendall(raw.head("POST", path_of("A") + "/invoke", fields))
        assert connection.recv(4096).startswith(b"HTTP/1.1 100 ")
        connection.sendall(BODY)
        assert raw.Answer(connection).status == 200


@pytest.mark.differs("mms", reason="413 without a body")
@pytest.mark.case(34)
def test_expectation_over_the_limit(client: Client, target: Target, zoo: Zoo) -> None:
    """A body that is too large is refused before it is sent."""
    client.load("A", zoo.a)
    fields = {"Expect": "100-continue", "Content-Length": 40 * MIB}
    head = raw.head("POST", path_of("A") + "/invoke", fields)
    assert raw.exchange(address(target), head).status == 413


@pytest.mark.case(35, 36)
def test_unknown_and_unloaded_are_404(client: Client, zoo: Zoo) -> None:
    """On a 404, the platform loads the model again."""
    assert client.invoke("A").status_code == 404
    client.load("A", zoo.a)
    client.unload("A")
    assert client.invoke("A").status_code == 404


@pytest.mark.case(37)
@pytest.mark.parametrize(
    "body", ["{bad", "null", '{"inputs": null}', '{"inputs": 7}', '{"inputs": []}', '{"inputs": {}}',
             '{"inputs": "a", "parameters": []}', "[" * 50000]
)  # fmt: skip
def test_wrong_json_is_400(client: Client, zoo: Zoo, body: str) -> None:
    """Distinguished from errors of the model, which are 5xx."""
    client.load("A", zoo.a)
    assert client.invoke("A", body).status_code == 400
    assert label(client.invoke("A")).startswith("A")


@pytest.mark.case(37)
def test_unknown_parameters_are_400(client: Client, zoo: Zoo) -> None:
    """Custom code may accept them: a transformers pipeline takes any parameter."""
    client.load("A", zoo.a)
    response = client.invoke("A", {"inputs": "a", "parameters": {"bogus": 1}})
    assert response.status_code == 400 or (zoo.isolated and response.status_code == 200)


@pytest.mark.case(37)
@pytest.mark.parametrize(
    "media", ["application/x-npy", "image/png", "nonsense", "text/plain; charset=klingon"]
)
def test_unknown_media_type_is_415(client: Client, zoo: Zoo, media: str) -> None:
    """For a model that reads text."""
    client.load("A", zoo.a)
    assert client.invoke("A", b"\x93NUMPY", content_type=media).status_code in (400, 415)


@pytest.mark.case(38)
def test_a_model_that_raises(client: Client, zoo: Zoo) -> None:
    """A short 5xx other than 507; the next request succeeds."""
    client.load("raising", zoo.raising)
    for _ in range(3):
        response = client.invoke("raising", {"inputs": {"text": "fox", "text_pair": "dog"}})
        assert response.status_code == 500, response.text
        assert client.invoke("raising").status_code == 200


@pytest.mark.case(38)
def test_a_raising_request_does_not_fail_its_batch(client: Client, zoo: Zoo) -> None:
    """Of many concurrent requests, only those that raise get 500."""
    client.load("raising", zoo.raising)
    bodies = [TEXT, {"inputs": {"text": "fox", "text_pair": "dog"}}] * 16
    with ThreadPoolExecutor(16) as pool:
        statuses = pool.map(lambda body: client.invoke("raising", body).status_code, bodies)
        assert list(statuses) == [200, 500] * 16


@pytest.mark.case(39)
def test_interleaved_models(client: Client, zoo: Zoo) -> None:
    """500 requests from eight clients: each response equals that of the same text sent alone."""
    client.load("A", zoo.a)
    client.load("B", zoo.b)

    def ask(request: tuple[str, str]) -> tuple[str, float]:
        return answer(client.invoke(request[0], {"inputs": request[1]}))

    alone = {request: ask(request) for request in itertools.product("AB", TEXTS)}
    assert len(set(alone.values())) == len(alone)
    requests = random.Random(39).choices(list(alone), k=500)
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(ask, requests))
    for request, (winner, score) in zip(requests, answers, strict=True):
        assert winner == alone[request][0]
        assert score == pytest.approx(alone[request][1], abs=0.002)


@pytest.mark.differs("mms", reason="any method runs the model")
@pytest.mark.case(40)
@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE", "PATCH", "OPTIONS"])
def test_other_methods_on_invoke(client: Client, zoo: Zoo, method: str) -> None:
    """405 with Allow; the model does not run and stays loaded."""
    client.load("A", zoo.a)
    before = ran(client)
    response = client.request(method, path_of("A") + "/invoke", content=BODY)
    assert response.status_code == 405
    assert response.headers["allow"] == "POST"
    assert ran(client) == before
    assert client.names() == {"A"}


def ran(client: Client) -> float:
    return client.gauges()["mme_batch_size_count"]


@pytest.mark.case(41, 42)
def test_accept(client: Client, zoo: Zoo) -> None:
    """Honoured, or 406 before the model runs; every response has a Content-Type."""
    client.load("A", zoo.a)
    for accept in ("application/json", "*/*", "application/*", "text/html, application/json;q=0.5"):
        response = client.invoke("A", Accept=accept)
        assert response.status_code == 200, accept
        assert response.headers["content-type"].startswith("application/json")
    assert client.invoke("A", Accept="text/csv").headers["content-type"].startswith("text/csv")
    assert client.invoke("A", Accept="image/png").status_code == 406


@pytest.mark.case(43)
def test_clients_that_leave(client: Client, target: Target, zoo: Zoo) -> None:
    """100 clients disconnect during the body or right after it: no request stays queued or running."""
    client.load("slow", zoo.slow)
    content = json.dumps(tokens(20)).encode()
    request = raw.post(path_of("slow") + "/invoke", content)
    for index in range(100):
        with raw.connect(address(target)) as connection:
            connection.sendall(request if index % 2 else request[:-20])
    until(lambda: busy(client) == 0, within_s=30)
    assert client.invoke("slow", tokens(5)).status_code == 200


def busy(client: Client) -> float:
    gauges = client.gauges()
    return gauges[RUNNING] + gauges[WAITING]


@pytest.mark.differs("mms", reason="pipelined requests are not answered in order")
@pytest.mark.case(43)
def test_pipelined_requests(client: Client, target: Target, zoo: Zoo) -> None:
    """Two requests in one packet get two responses, in order."""
    client.load("A", zoo.a)
    client.load("B", zoo.b)
    both = raw.post(path_of("A") + "/invoke", BODY) + raw.post(path_of("B") + "/invoke", BODY)
    with raw.connect(address(target)) as connection:
        connection.sendall(both)
        reader = connection.makefile("rb")
        labels = [next_label(reader) for _ in range(2)]
    assert [each[0] for each in labels] == ["A", "B"]


def next_label(reader: io.BufferedReader) -> str:
    assert reader.readline().startswith(b"HTTP/1.1 200")
    length = int(http.client.parse_headers(reader)["content-length"])
    return str(json.loads(reader.read(length))[0]["label"])
