"""Artifacts with anything but regular files of reasonable size are refused before a file is opened."""

import os
import shutil
import socket
from collections.abc import Callable
from pathlib import Path

import pytest

from model_handler.artifacts import artifact
from model_handler.errors import ModelLoadFailed
from tests.model_handler.tensors_alive import failure

pytestmark = pytest.mark.usefixtures("no_tracebacks_kept")


def inspected(path: Path) -> artifact.Artifact:
    return artifact.inspect(path, default_task=None, dtype="auto", device="cpu")


def refused(path: Path) -> str:
    """The reason of the inspection, which a load repeats: a worker may load later than it was inspected."""
    with pytest.raises(ModelLoadFailed) as caught:
        inspected(path)
    assert failure(path) == str(caught.value)
    return str(caught.value)


def a_socket(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as end:
        end.bind(str(path))


def replaced(path: Path, make: Callable[[Path], object]) -> None:
    path.unlink(missing_ok=True)
    path.parent.mkdir(exist_ok=True)
    make(path)


@pytest.mark.parametrize("name", ["vocab.txt", "model.safetensors", "config.json", "x/notes.md"])
@pytest.mark.parametrize("make", [os.mkfifo, a_socket])
def test_special_files_are_refused(
    copy: Path, name: str, make: Callable[[Path], object], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(copy)  # the path of a socket has at most 107 characters
    replaced(Path(name), make)
    assert name in refused(copy)


@pytest.mark.parametrize(
    "target", ["/dev/zero", "/proc/self/environ", "{}/model.safetensors", "{}", "/", "{}/absent"]
)
@pytest.mark.parametrize("name", ["x.model", "model.safetensors", "sub/x.txt", "config.json"])
def test_links_out_of_the_artifact_are_refused(copy: Path, name: str, target: str) -> None:
    neighbour = copy.parent / "neighbour"
    neighbour.mkdir()
    shutil.copy(copy / "model.safetensors", neighbour)
    replaced(copy / name, lambda path: path.symlink_to(target.format(neighbour)))
    assert name in refused(copy)


def test_a_link_through_a_link_is_refused(copy: Path) -> None:
    (copy / "inner").symlink_to("/dev")
    (copy / "x.model").symlink_to("inner/zero")
    assert "link" in refused(copy)


def test_a_link_to_itself_is_refused(copy: Path) -> None:
    (copy / "x.model").symlink_to("x.model")
    assert "x.model" in refused(copy)


def test_links_within_the_artifact_are_followed(copy: Path) -> None:
    (copy / "weights").mkdir()
    (copy / "model.safetensors").rename(copy / "weights/model.safetensors")
    (copy / "model.safetensors").symlink_to("weights/model.safetensors")
    (copy / "absent.txt").symlink_to("nothing.txt")
    assert inspected(copy).nbytes > 0


def cached(copy: Path, hub: Path) -> Path:
    """The artifact as a snapshot of a hub cache: each file is a link to a blob."""
    snapshot, blobs = hub / "models--org--name/snapshots/0123", hub / "models--org--name/blobs"
    snapshot.mkdir(parents=True)
    blobs.mkdir()
    for number, file in enumerate(sorted(copy.iterdir())):
        file.rename(blobs / str(number))
        (snapshot / file.name).symlink_to(f"../../blobs/{number}")
    return snapshot


def test_a_snapshot_of_a_hub_cache_is_loaded(copy: Path, tmp_path: Path) -> None:
    assert inspected(cached(copy, tmp_path / "hub")).nbytes > 0


def test_a_snapshot_with_the_blobs_of_another_model_is_refused(copy: Path, tmp_path: Path) -> None:
    snapshot = cached(copy, tmp_path / "hub")
    blobs = tmp_path / "hub/models--org--name/blobs"
    other = blobs.rename(tmp_path / "hub/other-blobs")
    blobs.symlink_to(other)
    assert "link" in refused(snapshot)


@pytest.mark.parametrize(
    "name", ["x.model", "vocab.txt", "tokenizer.json", "merges.txt", "config.json", "chat.jinja"]
)
def test_sparse_files_that_would_be_read_whole_are_refused(copy: Path, name: str) -> None:
    with (copy / name).open("ab") as stream:
        stream.truncate(200 << 30)
    assert name in refused(copy)


def test_files_that_are_not_read_may_be_large(copy: Path) -> None:
    with (copy / "optimizer.pt").open("ab") as stream:
        stream.truncate(1 << 30)
    inspected(copy)


def test_directories_nested_deeply_are_refused(copy: Path) -> None:
    copy.joinpath(*["d"] * 40).mkdir(parents=True)
    assert "nested" in refused(copy)
