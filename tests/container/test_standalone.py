"""Without the platform: every artifact in one directory is found and loaded, and selected per request."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import hypothesis.strategies as st
import pytest
from hypothesis import given

from container import standalone
from container.archive import ArchiveRefused
from container.standalone import pop_model_id
from tests import hostile_archives
from tests.container.conftest import Running, Serve
from tests.container.test_archive import packed
from tests.hostile_archives import HOSTILE

TARGET = "X-Amzn-SageMaker-Target-Model"


def artifact(path: Path) -> Path:
    path.mkdir(parents=True)
    (path / "config.json").write_text("{}")
    return path


@pytest.fixture
def model_dir(tmp_path: Path) -> Path:
    path = tmp_path / "model"
    path.mkdir()
    return path


@pytest.fixture
def start(serve: Serve, tmp_path: Path, model_dir: Path) -> Iterator[Callable[[], Running]]:
    """Starts a server over `model_dir`. Checks at the end that no unpacked files remain."""
    scratch = tmp_path / "scratch"
    started: list[Running] = []

    def call() -> Running:
        running = serve(
            SAGEMAKER_MULTI_MODEL="false",
            MME_MODEL_DIR=str(model_dir),
            MME_SCRATCH_DIR=str(scratch),
        )
        started.append(running)
        return running

    yield call
    for running in started:
        running.stop()
    assert not scratch.exists()


def ping_after_loading(running: Running) -> int:
    """The first status of /ping after loading."""
    while "being loaded" in (response := running.http.get("/ping")).text:
        pass
    return response.status_code


@pytest.mark.parametrize("marker", ["config.json", "handler.py", "serving.properties", "code/x"])
def test_a_directory_may_be_the_artifact_itself(model_dir: Path, marker: str) -> None:
    (model_dir / marker).parent.mkdir(exist_ok=True)
    (model_dir / marker).write_text("")
    (model_dir / "sub").mkdir()
    (found,) = standalone.find(model_dir)
    assert (found.name, found.path) == ("model", model_dir)


def test_directories_and_archives_are_found(model_dir: Path) -> None:
    artifact(model_dir / "b")
    artifact(model_dir / "c")
    artifact(model_dir / ".hidden")
    for name in ("a.tar.gz", "c.tar.gz", "d.tgz", "notes.txt", "x.zip"):
        (model_dir / name).write_bytes(b"")
    found = standalone.find(model_dir)
    assert [(each.name, each.path.name, each.target) for each in found] == [
        ("a", "a.tar.gz", "a.tar.gz"),
        ("b", "b", "b.tar.gz"),
        ("c", "c", "c.tar.gz"),
        ("d", "d.tgz", "d.tgz"),
    ]


def test_a_directory_without_models(model_dir: Path, start: Callable[[], Running]) -> None:
    assert standalone.find(model_dir / "absent") == []
    running = start()
    assert ping_after_loading(running) == 503
    response = running.http.post("/invocations", content=b"x")
    assert response.status_code == 400
    assert "no model is loaded" in response.text


def test_one_model_needs_no_name(model_dir: Path, start: Callable[[], Running]) -> None:
    artifact(model_dir / "only")
    running = start()
    assert ping_after_loading(running) == 200
    assert running.http.post("/invocations", content=b"x").content == b"x"


def test_an_archive_that_cannot_be_unpacked_costs_no_other(
    model_dir: Path, start: Callable[[], Running]
) -> None:
    hostile_archives.write(model_dir / "a.tar.gz", HOSTILE["deep file"]())
    packed(model_dir / "b.tar.gz", [("config.json", b"{}")])
    running = start()
    assert ping_after_loading(running) == 200
    assert running.http.post("/invocations", content=b"x").content == b"x"


def test_models_are_chosen_by_header_or_body(model_dir: Path, start: Callable[[], Running]) -> None:
    artifact(model_dir / "a")
    packed(model_dir / "b.tar.gz", [("config.json", b"{}")])
    running = start()
    assert ping_after_loading(running) == 200
    for target in ("a", "a.tar.gz", "b", "b.tar.gz"):
        running.http.post("/invocations", content=b"", headers={TARGET: target})
    assert [name for name, _ in running.engine.requests] == ["a", "a", "b", "b"]
    document = {"inputs": "ü", "model_id": "b", "parameters": {"n": 1.50}}
    answer = running.post("/invocations", **document)
    assert running.engine.requests[-1][0] == "b"
    assert answer.json() == {"inputs": "ü", "parameters": {"n": 1.5}}


def test_a_missing_or_unknown_name_lists_the_loaded_models(
    model_dir: Path, start: Callable[[], Running]
) -> None:
    artifact(model_dir / "a")
    artifact(model_dir / "b")
    running = start()
    assert ping_after_loading(running) == 200
    missing = running.post("/invocations", inputs="x")
    unknown = running.post("/invocations", inputs="x", model_id="c")
    header = running.http.post("/invocations", content=b"", headers={TARGET: "c"})
    wrong = running.post("/invocations", inputs="x", model_id=7)
    statuses = [each.status_code for each in (missing, unknown, header, wrong)]
    assert statuses == [400, 404, 404, 400]
    assert all("available: a, b" in each.text for each in (missing, unknown, header))
    assert running.engine.requests == []


def test_a_bad_artifact_affects_no_other(
    model_dir: Path, start: Callable[[], Running], caplog: pytest.LogCaptureFixture
) -> None:
    artifact(model_dir / "good")
    (model_dir / "bad.tar.gz").write_bytes(b"not an archive")
    packed(model_dir / "evil.tar.gz", [("../evil", b"")])
    running = start()
    assert ping_after_loading(running) == 200
    assert [info.name for info in running.engine.models()] == ["good"]
    refused = {vars(each)["model"] for each in caplog.records if each.msg == "artifact not served"}
    assert refused == {"bad", "evil"}


def test_a_scratch_directory_of_another_user_is_not_used(tmp_path: Path) -> None:
    """A link in a shared temporary directory must not redirect unpacked files."""
    source = packed(tmp_path / "a.tar.gz", [("config.json", b"{}")])
    elsewhere = artifact(tmp_path / "elsewhere")
    link = tmp_path / "scratch"
    link.symlink_to(elsewhere)
    with pytest.raises(ArchiveRefused):
        standalone.unpack_into_scratch(source, link / "a", link)
    assert [path.name for path in elsewhere.iterdir()] == ["config.json"]


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"x",
        b'{"inputs": 1}',
        b'["model_id"]',
        b'"model_id"',
        b'{"model_id": "a"',
        b'\xff"model_id"',
    ],
)
def test_bodies_without_a_model_id_are_unchanged(body: bytes) -> None:
    assert pop_model_id(body) == (None, body)


documents = st.dictionaries(
    st.text(max_size=5).filter(lambda key: key != "model_id"),
    st.recursive(st.none() | st.integers() | st.text(max_size=5), st.lists, max_leaves=5),
    max_size=4,
)


@given(documents, st.text(max_size=10))
def test_only_the_model_id_is_removed(document: dict[str, object], name: str) -> None:
    body = json.dumps(document | {"model_id": name}).encode()
    popped, rest = pop_model_id(body)
    assert popped == name
    assert json.loads(rest) == document
