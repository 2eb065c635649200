"""Standalone mode: SAGEMAKER_MULTI_MODEL is not set, and all models in one directory are served."""

import base64
import shutil
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest

from tests.contract.artifacts import Zoo
from tests.contract.client import TARGET, TEXT, Client, label
from tests.contract.targets import Target
from tests.contract.test_invoke import about, picture
from tests.contract.waiting import until

pytestmark = pytest.mark.differs(
    "mms", reason="MME_FRONT=multi-model-server has no stand-alone mode"
)


@pytest.fixture(scope="module")
def directory(zoo: Zoo, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A as a directory, B as an archive, an image model as a directory, and a malicious archive."""
    directory = tmp_path_factory.mktemp("standalone")
    shutil.copytree(zoo.a, directory / "A")
    with tarfile.open(directory / "B.tar.gz", "w:gz") as archive:
        for file in zoo.b.iterdir():
            archive.add(file, file.name)
    with tarfile.open(directory / "vision.tar.gz", "w:gz") as archive:
        archive.add(zoo.vision, "vision-of-2024")
    with tarfile.open(directory / "evil.tar.gz", "w:gz") as archive:
        archive.add(zoo.a / "config.json", f"../../../../../../../../{victim(directory)}")
        archive.add(zoo.a / "config.json", str(victim(directory)))
    (directory / "README.txt").write_text("not a model")
    return directory


def victim(directory: Path) -> Path:
    """The path to which the malicious archive tries to write."""
    return directory.parent / "victim"


@pytest.fixture(scope="module")
def server(start: Callable[..., Target], directory: Path) -> Iterator[Target]:
    server = start({"SAGEMAKER_MULTI_MODEL": None, "MME_MODEL_DIR": str(directory)})
    yield server
    server.stop()


@pytest.fixture
def client(server: Target) -> Iterator[Client]:
    """A client, after the server has loaded all models."""
    with Client(server.base_url) as client:
        until(lambda: len(client.names()) == 3, within_s=60)
        yield client


def post(client: Client, document: object = TEXT, target: str | None = None) -> httpx.Response:
    headers = {} if target is None else {TARGET: target}
    return client.request("POST", "/invocations", json=document, headers=headers)


def test_header_chooses(client: Client) -> None:
    """The header has a directory's name, or an archive's name with or without its suffix."""
    assert label(post(client, target="A")).startswith("A")
    assert label(post(client, target="B")).startswith("B")
    assert label(post(client, target="B.tar.gz")).startswith("B")


def test_model_id_chooses(client: Client) -> None:
    """`model_id` in the body, as for the multi-model handler of Inference Endpoints."""
    for letter in "AB":
        assert label(post(client, TEXT | {"model_id": letter})).startswith(letter)


def test_the_header_takes_precedence(client: Client) -> None:
    """If both are given."""
    assert label(post(client, TEXT | {"model_id": "B"}, "A")).startswith("A")


@pytest.mark.parametrize("document", [TEXT, TEXT | {"model_id": "nobody"}, TEXT | {"model_id": ""}])
def test_missing_or_unknown_lists_what_there_is(client: Client, document: object) -> None:
    """4xx, and the message names every model."""
    response = post(client, document)
    assert response.status_code in (400, 404)
    assert all(name in response.json()["message"] for name in ("A", "B", "vision"))


@pytest.mark.parametrize("model_id", [7, None, ["A"], {"A": 1}])
def test_a_model_id_that_is_no_text(client: Client, model_id: object) -> None:
    """400, nothing is coerced."""
    assert post(client, TEXT | {"model_id": model_id}).status_code == 400


def test_unknown_header_lists_what_there_is(client: Client) -> None:
    """404."""
    response = post(client, target="nobody")
    assert response.status_code == 404
    assert "vision" in response.json()["message"]


def test_bytes_and_answers(client: Client) -> None:
    """A raw image needs the header; both forms give the same response."""
    fields = {TARGET: "vision", "Content-Type": "image/png"}
    as_bytes = client.request("POST", "/invocations", content=picture(), headers=fields)
    encoded = base64.b64encode(picture()).decode()
    as_json = post(client, {"inputs": encoded, "model_id": "vision"})
    assert as_bytes.status_code == as_json.status_code == 200
    assert as_bytes.json() == about(as_json.json())


def test_the_directory_is_not_changed(client: Client, directory: Path) -> None:
    """Archives are unpacked elsewhere."""
    assert client.names() == {"A", "B", "vision"}
    assert {path.name for path in directory.iterdir()} == {
        *("A", "B.tar.gz", "vision.tar.gz", "evil.tar.gz", "README.txt")
    }


def test_one_model_needs_no_name(launch: Callable[..., Target], zoo: Zoo) -> None:
    """The classic layout: the artifact's files directly in the directory."""
    server = launch(SAGEMAKER_MULTI_MODEL=None, MME_MODEL_DIR=str(zoo.a))
    with Client(server.base_url) as client:
        until(lambda: client.names(), within_s=60)
        assert label(post(client)).startswith("A")


def test_archives_cannot_write_elsewhere(client: Client, directory: Path) -> None:
    """A member with `..` or an absolute path is not unpacked; the other models serve."""
    until(lambda: client.ping().status_code == 200)  # once everything was tried
    assert not victim(directory).exists()
