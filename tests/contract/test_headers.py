"""Group E: headers."""

import json

import httpx
import pytest

from tests.contract import raw
from tests.contract.artifacts import Zoo
from tests.contract.client import TARGET, TEXT, Client, label, path_of
from tests.contract.targets import Target, address

ATTRIBUTES = "X-Amzn-SageMaker-Custom-Attributes"
BODY = json.dumps(TEXT).encode()
ODD_TARGETS = ("", "x" * 1024, "../../x", "/etc/passwd", "a/b/c.tar.gz", "%2e%2e", "B")


@pytest.mark.case(44)
def test_the_path_takes_precedence_over_the_header(client: Client, zoo: Zoo) -> None:
    """Invoke and delete act on the model in the path, never on the one in the header."""
    client.load("A", zoo.a, target="a.tar.gz")
    client.load("B", zoo.b, target="b.tar.gz")
    for other in ("B", "b.tar.gz", "c.tar.gz"):
        assert label(client.invoke("A", **{TARGET: other})).startswith("A")
    assert client.unload("A", target="b.tar.gz").status_code == 200
    assert client.names() == {"B"}
    assert label(client.invoke("B", **{TARGET: "a.tar.gz"})).startswith("B")


@pytest.mark.case(45)
@pytest.mark.parametrize("value", ODD_TARGETS)
def test_odd_target_models(client: Client, zoo: Zoo, value: str) -> None:
    """They have no effect on load, invoke and unload."""
    assert client.load("A", zoo.a, target=value).status_code == 200
    assert label(client.invoke("A", **{TARGET: value})).startswith("A")
    assert client.unload("A", target=value).status_code == 200


@pytest.mark.case(45)
def test_target_model_beyond_ascii(client: Client, target: Target, zoo: Zoo) -> None:
    """Raw UTF-8 and Latin-1 bytes in the header."""
    client.load("A", zoo.a)
    for value in ("modèle.tar.gz".encode(), "modèle.tar.gz".encode("latin-1"), b"\x80\xff"):
        request = raw.post(path_of("A") + "/invoke", BODY)
        first, _, rest = request.partition(b"\r\n")
        field = TARGET.encode() + b": " + value
        answer = raw.exchange(address(target), b"\r\n".join([first, field, rest]))
        assert answer.status == 200


@pytest.mark.case(46)
def test_custom_attributes_are_not_echoed(client: Client, zoo: Zoo) -> None:
    """None of the handlers sets them, so no response contains them."""
    client.load("A", zoo.a)
    response = client.invoke("A", **{ATTRIBUTES: "trace=1;" + "x" * 1000})
    assert response.status_code == 200
    assert ATTRIBUTES not in response.headers


@pytest.mark.case(46)
@pytest.mark.parametrize("ending", [b"\r\n ", b"\n", b"\r", b"\0", b"\r\n\t"])
def test_attributes_cannot_inject_headers(
    client: Client, target: Target, zoo: Zoo, ending: bytes
) -> None:
    """A line end in the value does not add a header to the response."""
    client.load("A", zoo.a)
    request = raw.post(path_of("A") + "/invoke", BODY)
    first, _, rest = request.partition(b"\r\n")
    field = ATTRIBUTES.encode() + b": a" + ending + b"X-Injected: yes"
    with raw.connect(address(target)) as connection:
        connection.sendall(b"\r\n".join([first, field, rest]))
        said = connection.recv(65536)
    assert said.startswith((b"HTTP/1.1 200", b"HTTP/1.1 400"))
    assert b"X-Injected" not in said
    assert client.ping().status_code == 200


@pytest.mark.case(47)
def test_unknown_headers_are_ignored(client: Client, zoo: Zoo) -> None:
    """Session, inference id, and headers that the platform may add in future."""
    client.load("A", zoo.a)
    fields = {
        "X-Amzn-SageMaker-Session-Id": "NEW_SESSION",
        "X-Amzn-SageMaker-Inference-Id": "i" * 64,
        "X-Amzn-SageMaker-Of-Tomorrow": "yes",
        "X-Forwarded-For": "10.32.0.2",
        "X-HTTP-Method-Override": "DELETE",
    }
    assert label(client.invoke("A", **fields)).startswith("A")
    assert client.names() == {"A"}


def post(client: Client, target: str | None = None) -> httpx.Response:
    headers = {} if target is None else {TARGET: target}
    return client.request("POST", "/invocations", json=TEXT, headers=headers)


@pytest.mark.differs(
    "mms", reason="POST /invocations serves one model alone and does not read Target-Model"
)
@pytest.mark.case(48)
def test_invocations(client: Client, zoo: Zoo) -> None:
    """The header has a name or the TargetModel of a load; without it the only model answers. Else 400 or
    404."""
    assert post(client).status_code == 400
    client.load("A", zoo.a, target="models/a.tar.gz")
    assert label(post(client)).startswith("A")
    client.load("B", zoo.b, target="models/b.tar.gz")
    assert post(client).status_code == 400
    for letter in "AB":
        assert label(post(client, letter)).startswith(letter)
        assert label(post(client, f"models/{letter.lower()}.tar.gz")).startswith(letter)
    assert post(client, "nobody").status_code == 404


@pytest.mark.differs("mms", reason="POST /invocations does not read Target-Model")
@pytest.mark.case(48)
def test_a_refused_load_leaves_the_target_where_it_was(client: Client, zoo: Zoo) -> None:
    """A failed load with the same Target-Model does not replace the model that is served under it."""
    client.load("A", zoo.a, target="a.tar.gz")
    assert client.load("bad", zoo.broken("no-config"), target="a.tar.gz").status_code >= 400
    assert label(post(client, "a.tar.gz")).startswith("A")
