"""Group B: list and get."""

from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.contract.artifacts import Zoo
from tests.contract.client import Client
from tests.contract.targets import Target

MANY = 250


@pytest.mark.case(10)
def test_list_shows_name_and_url(client: Client, target: Target, zoo: Zoo) -> None:
    """Exactly the two documented keys, with the url of the load."""
    url = target.url(zoo.a)
    client.load("A", url)
    assert client.list().json() == {"models": [{"modelName": "A", "modelUrl": url}]}


@pytest.mark.differs("mms", reason="seven further fields beside the two of the contract")
@pytest.mark.case(11)
def test_get_is_an_object(client: Client, target: Target, zoo: Zoo) -> None:
    """It is not wrapped in an array, unlike in some servers."""
    url = target.url(zoo.a)
    client.load("A", url)
    response = client.describe("A")
    assert response.status_code == 200
    assert response.json() == {"modelName": "A", "modelUrl": url}


@pytest.mark.case(12)
def test_get_unknown_is_404(client: Client) -> None:
    """With the documented error body, which the client checks."""
    assert client.describe("nobody").status_code == 404


@pytest.mark.case(13)
def test_unloaded_models_disappear(client: Client, zoo: Zoo) -> None:
    """From the list and from get, immediately; other models stay."""
    client.load("A", zoo.a)
    client.load("B", zoo.b)
    client.unload("A")
    assert client.names() == {"B"}
    assert client.describe("A").status_code == 404


@pytest.mark.differs(
    "mms", reason="not compared: so many loads take minutes, since each imports PyTorch"
)
@pytest.mark.case(14, 15)
def test_pages(client: Client, target: Target, zoo: Zoo) -> None:
    """Every name once, in order; full pages but the last; a token only when there is more."""
    url = target.url(zoo.featherweight)
    names = [f"model-{index:03d}" for index in range(MANY)]
    with ThreadPoolExecutor(8) as pool:
        loads = pool.map(lambda name: client.load(name, url).status_code, names)
        assert set(loads) == {200}
    check_pages(client, names, 100, [100, 100, 50])
    check_pages(client, names, 50, [50] * 5)
    check_odd_queries(client)
    with ThreadPoolExecutor(8) as pool:
        assert set(pool.map(lambda name: client.unload(name).status_code, names)) == {200}


def check_pages(client: Client, names: list[str], limit: int, sizes: list[int]) -> None:
    pages = list(client.pages(limit))
    assert [len(page["models"]) for page in pages] == sizes
    assert [entry["modelName"] for page in pages for entry in page["models"]] == names
    assert "nextPageToken" not in pages[-1]


def check_odd_queries(client: Client) -> None:
    for limit in ("0", "abc", "-1", "1000", "", "1e9", "9" * 30):
        response = client.list(limit=limit)
        assert response.status_code in (200, 400), limit
        if response.status_code == 200:
            assert response.json()["models"], f"limit={limit} would page for ever"
    for token in ("bogus", "-1", "999999", "", "☃", "A" * 2000):
        assert client.list(next_page_token=token).status_code in (200, 400), token
    assert client.list(next_page_token="bogus").status_code == 400
    assert client.list(something="else").status_code == 200


@pytest.mark.case(15)
def test_an_empty_list_has_no_pages(client: Client) -> None:
    """With any limit."""
    assert client.list(limit=1).json() == {"models": []}


@pytest.mark.case(16)
def test_trailing_slash(client: Client, zoo: Zoo) -> None:
    """GET /models/ is GET /models, without a redirect that a platform might not follow."""
    client.load("A", zoo.a)
    assert client.request("GET", "/models/").json() == client.list().json()
