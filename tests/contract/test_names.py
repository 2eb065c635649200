"""Group I: names and paths. Paths are sent byte for byte as written here."""

import json

import pytest

from tests.contract import raw
from tests.contract.artifacts import Zoo
from tests.contract.client import TEXT, Client, label, path_of
from tests.contract.targets import RESERVED, Target, address

BODY = json.dumps(TEXT).encode()
TRICKS = (
    "a%2Fb",
    "a%2fb",
    "..",
    ".",
    "%2e%2e",
    "%2e",
    "a%00",
    "a%5Cb",
    "..%2f..",
    "%252e%252e",
    "",
    "a%0d%0ab",
)
BAD_NAMES = ("a/b", "/", "..", ".", "a\0", "a\\b", "a\nb", "a\x7f", "x" * 256, "é" * 256)
GOOD_NAMES = (
    "with space", "a+b", "50%", "a%20b", "%25", "modèle-模型", "a:b@c,d;e=f", "~.-_", "...", "n" * 255,
    "a?b#c", "a&b", "name.tar.gz", "7f3a9c0d" * 8,
)  # fmt: skip


@pytest.mark.differs("mms", reason="the error message contains control characters of the name")
@pytest.mark.case(77)
@pytest.mark.parametrize("trick", TRICKS)
def test_tricks_in_the_path(client: Client, target: Target, zoo: Zoo, trick: str) -> None:
    """400 or 404 for each call; models whose names are parts of the path are not affected."""
    client.load("a", zoo.a)
    client.load("b", zoo.b)
    server, path = address(target), f"/models/{trick}"
    requests = [raw.post(f"{path}/invoke", BODY), raw.head("DELETE", f"{path}/invoke")]
    if trick:
        requests += [raw.head("GET", path), raw.head("DELETE", path)]
    for request in requests:
        answer = raw.exchange(server, request)
        assert answer.status in (400, 404, 405), request
        assert answer.status != 405 or request.startswith(b"DELETE")
    assert client.names() == {"a", "b"}


@pytest.mark.differs(
    "mms", reason="a name with a slash is accepted, but no later request can reach the model"
)
@pytest.mark.case(77, 79)
@pytest.mark.parametrize("name", BAD_NAMES)
def test_bad_names_are_400(client: Client, zoo: Zoo, name: str) -> None:
    """Refused at the load, before the artifact is read."""
    assert client.load(name, zoo.a).status_code == 400
    assert client.list().json() == {"models": []}
    assert client.gauges()[RESERVED] == 0


@pytest.mark.differs("mms", reason="the error message contains the name, whatever its length")
@pytest.mark.case(77, 79)
def test_an_overlong_name_in_the_path(client: Client) -> None:
    """400 or 404 for any length."""
    for length in (256, 4000):
        assert client.describe("x" * length).status_code in (400, 404)
        assert client.invoke("x" * length).status_code in (400, 404)


@pytest.mark.case(78)
@pytest.mark.parametrize("name", GOOD_NAMES)
def test_round_trip(client: Client, zoo: Zoo, name: str) -> None:
    """Load, list, get, invoke, delete, with every reserved character percent-encoded."""
    loaded = client.load(name, zoo.a)
    if loaded.status_code == 400:
        assert client.names() == set()
        return
    assert loaded.status_code == 200
    assert client.names() == {name}
    assert client.describe(name).json()["modelName"] == name
    assert label(client.invoke(name)).startswith("A")
    assert client.unload(name).status_code == 200
    assert client.names() == set()


@pytest.mark.case(78)
def test_decoded_once(client: Client, zoo: Zoo) -> None:
    """`a%20b` and `a b` are different names; `+` is not decoded as a space."""
    client.load("a b", zoo.a)
    client.load("a%20b", zoo.b)
    assert label(client.invoke("a b")).startswith("A")
    assert label(client.invoke("a%20b")).startswith("B")
    assert client.request("GET", "/models/a%20b").json()["modelName"] == "a b"
    assert client.request("GET", "/models/a%2520b").json()["modelName"] == "a%20b"
    assert client.request("GET", "/models/a+b").status_code == 404


@pytest.mark.differs(
    "mms",
    reason="refused with 500 instead of 400 or 404, after a process was started for the model",
)
@pytest.mark.case(80)
@pytest.mark.parametrize(
    "url",
    ["/etc", "/", "/proc/self", "/proc/self/root/etc", "/dev/zero", "/dev/stdin", "http://127.0.0.1/x",
     "s3://bucket/model", "file:///etc", "model", "./model", "../model", "~/model", "/etc\0/x", "//etc",
     " /etc"],
)  # fmt: skip
def test_urls_off_the_root(client: Client, url: str) -> None:
    """400 or 404, and no file content in the response."""
    response = client.load("A", url)
    assert response.status_code in (400, 404)
    assert client.list().json() == {"models": []}


@pytest.mark.differs("mms", reason="500 for a link that leads out of the root")
@pytest.mark.case(80)
def test_ways_out_of_the_root(client: Client, target: Target, zoo: Zoo) -> None:
    """Dots and symbolic links are resolved before the check, also one level above the artifact."""
    outside = zoo.root.parent / "outside"
    outside.mkdir(exist_ok=True)
    if not (outside / "model").exists():
        (outside / "model").symlink_to(zoo.a)
        (zoo.root / "link-out").symlink_to(outside)
        (zoo.root / "link-etc").symlink_to("/etc")
        (zoo.root / "link-in").symlink_to(zoo.a)
    root = target.url(zoo.root)
    for way in ("../outside", "link-etc", "link-out", "A/model/../../../../etc", "../../../../etc"):
        assert client.load("A", f"{root}/{way}").status_code in (400, 404), way
    assert client.load("A", f"{root}/link-in").status_code == 200
    assert client.load("B", f"{root}/A/../A/model").status_code == 200


@pytest.mark.case(80)
def test_a_link_to_a_file_outside_is_not_read(client: Client, zoo: Zoo) -> None:
    """A config.json that links to /etc/passwd is refused, and the response contains none of it."""
    directory = zoo.root / "links-passwd" / "model"
    if not directory.exists():
        zoo.copy("links-passwd", zoo.a)
        (directory / "config.json").unlink()
        (directory / "config.json").symlink_to("/etc/passwd")
    response = client.load("A", directory)
    assert response.status_code >= 400
    assert "root:" not in response.text


@pytest.mark.case(81)
@pytest.mark.parametrize("name", ["models", "invoke", "ping", "metrics", "invocations"])
def test_route_words_are_ordinary_names(client: Client, zoo: Zoo, name: str) -> None:
    """They can be loaded, invoked and deleted, and do not change the routes."""
    assert client.load(name, zoo.a).status_code == 200
    assert client.describe(name).json()["modelName"] == name
    assert label(client.invoke(name)).startswith("A")
    assert client.ping().status_code == 200
    assert client.names() == {name}
    assert client.unload(name).status_code == 200


@pytest.mark.case(82)
def test_trailing_slash_on_invoke(client: Client, zoo: Zoo) -> None:
    """The same as without."""
    client.load("A", zoo.a)
    response = client.request("POST", f"{path_of('A')}/invoke/", json=TEXT)
    assert label(response).startswith("A")
