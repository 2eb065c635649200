"""Group C: load."""

import json

import pytest

from tests.contract.artifacts import BREAKAGES, Zoo
from tests.contract.client import JSON, Client, label
from tests.contract.targets import Target, memory

RESIDENT_TOLERANCE = 48 << 20
ROUNDS = 50


@pytest.mark.case(17, 29)
def test_load_then_invoke(client: Client, zoo: Zoo) -> None:
    """After the 200 of a load, the model can serve. After a delete, the name is free again."""
    for _ in range(3):
        assert client.load("A", zoo.a).status_code == 200
        assert label(client.invoke("A")).startswith("A")
        assert client.unload("A").status_code == 200


@pytest.mark.case(18)
def test_loading_again_is_409(client: Client, zoo: Zoo) -> None:
    """And the model still serves."""
    client.load("A", zoo.a)
    for _ in range(2):
        assert client.load("A", zoo.a).status_code == 409
    assert label(client.invoke("A")).startswith("A")
    assert client.names() == {"A"}


@pytest.mark.case(19)
def test_same_name_other_url_is_409(client: Client, target: Target, zoo: Zoo) -> None:
    """The first model stays, with its url."""
    client.load("A", target.url(zoo.a))
    assert client.load("A", zoo.b).status_code == 409
    assert label(client.invoke("A")).startswith("A")
    assert client.describe("A").json()["modelUrl"] == target.url(zoo.a)


@pytest.mark.case(20)
def test_two_names_for_one_url(client: Client, zoo: Zoo) -> None:
    """Two models: unloading one leaves the other."""
    assert client.load("one", zoo.a).status_code == 200
    assert client.load("two", zoo.a).status_code == 200
    assert client.names() == {"one", "two"}
    client.unload("one")
    assert label(client.invoke("two")).startswith("A")


@pytest.mark.differs("mms", reason="a file instead of a directory is 500")
@pytest.mark.case(21)
def test_missing_directory_is_404(client: Client, zoo: Zoo) -> None:
    """A file is no directory either. The name stays free."""
    assert client.load("A", zoo.root / "nowhere" / "model").status_code == 404
    assert client.load("A", zoo.a / "config.json").status_code in (400, 404)
    assert client.list().json() == {"models": []}
    assert client.load("A", zoo.a).status_code == 200


@pytest.mark.differs("mms", reason="a model whose load failed is listed for a moment")
@pytest.mark.case(22)
@pytest.mark.parametrize("kind", BREAKAGES)
def test_broken_artifact(client: Client, target: Target, zoo: Zoo, kind: str) -> None:
    """Refused twice with the same error, never with 409 or 507, and nothing of it remains."""
    url = zoo.broken(kind)
    first, second = client.load("bad", url), client.load("bad", url)
    assert first.status_code >= 400
    assert first.status_code not in (409, 507)
    assert second.status_code == first.status_code
    assert client.list().json() == {"models": []}
    assert client.invoke("bad").status_code == 404
    assert memory(target, client).reserved == 0
    assert not (url.parent / "executed").exists()


@pytest.mark.differs("mms", reason="500, although the client's request is wrong")
@pytest.mark.case(23)
@pytest.mark.parametrize(
    "body", ["{bad", "", "[]", '"x"', "null", "7", '{"model_name": "A",}', "\xff"]
)
def test_bodies_that_are_no_object(client: Client, body: str) -> None:
    """400 each, also for JSON that is not an object, and for invalid UTF-8."""
    fields = {"Content-Type": JSON}
    content = body.encode("latin-1")
    response = client.request("POST", "/models", content=content, headers=fields)
    assert response.status_code == 400


@pytest.mark.differs("mms", reason="a number is accepted as a name; an empty url is 500")
@pytest.mark.case(24)
@pytest.mark.parametrize("field", ["model_name", "url"])
def test_fields_that_are_no_text(client: Client, target: Target, zoo: Zoo, field: str) -> None:
    """Missing, empty, null, number, boolean, list, object: 400, and nothing is coerced."""
    good: dict[str, object] = {"model_name": "A", "url": target.url(zoo.a)}
    bad = [{key: value for key, value in good.items() if key != field}]
    bad += [good | {field: value} for value in ("", None, 7, 1.5, True, [good[field]], {"a": 1})]
    for document in bad:
        response = client.request("POST", "/models", json=document)
        assert response.status_code == 400, document
    assert client.list().json() == {"models": []}


@pytest.mark.case(25)
def test_unknown_fields_are_ignored(client: Client, zoo: Zoo) -> None:
    """The platform may add fields in future."""
    assert client.load("A", zoo.a, gpu=7, options={"a": [1]}).status_code == 200


@pytest.mark.differs("mms", reason="a load without a JSON Content-Type is 400")
@pytest.mark.case(26)
@pytest.mark.parametrize("content_type", ["application/json; charset=utf-8", "text/plain", None])
def test_content_type_of_a_load(
    client: Client, target: Target, zoo: Zoo, content_type: str | None
) -> None:
    """The body is read as JSON, regardless of its Content-Type."""
    content = json.dumps({"model_name": "A", "url": target.url(zoo.a)}).encode()
    fields = {} if content_type is None else {"Content-Type": content_type}
    response = client.request("POST", "/models", content=content, headers=fields)
    assert response.status_code == 200


@pytest.mark.case(27)
def test_wrapped_artifact(client: Client, zoo: Zoo) -> None:
    """An archive with one directory around its files."""
    assert client.load("wrapped", zoo.wrapped).status_code == 200
    assert label(client.invoke("wrapped")).startswith("A")


@pytest.mark.differs("mms", reason="bodies of several MB are read, up to the limit for requests")
@pytest.mark.case(28)
def test_overlong_load_body(client: Client, zoo: Zoo) -> None:
    """2 MiB of padding in a valid body."""
    response = client.load("A", zoo.a, padding="x" * (2 << 20))
    assert response.status_code in (400, 413)
    assert client.load("A", zoo.a).status_code == 200


@pytest.mark.differs("mms", reason="not compared: 55 loads take minutes")
@pytest.mark.case(30)
def test_rounds_keep_no_memory(client: Client, target: Target, zoo: Zoo) -> None:
    """Reserved bytes and RSS after 50 rounds are those after a few rounds."""
    for _ in range(5):
        one_round(client, zoo)
    before = memory(target, client)
    for _ in range(ROUNDS):
        one_round(client, zoo)
    after = memory(target, client)
    assert after.reserved == before.reserved == 0
    assert after.resident - before.resident < RESIDENT_TOLERANCE


def one_round(client: Client, zoo: Zoo) -> None:
    assert client.load("A", zoo.a).status_code == 200
    assert label(client.invoke("A")).startswith("A")
    assert client.unload("A").status_code == 200
