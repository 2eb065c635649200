"""Unmodified views of a file are recognised without reading them; modified views are not."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from model_handler.transfer import mapped_weights
from model_handler.transfer.file_pages import FilePages

NAMES = ("one", "two")


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "model.safetensors"
    save_file({name: torch.arange(4096.0) for name in NAMES}, path)
    return path


def views(file: Path) -> dict[str, torch.Tensor]:
    return dict(mapped_weights.tensors(file, NAMES))


def test_two_views_of_the_same_bytes_are_the_same(file: Path) -> None:
    first, second = views(file), views(file)
    pages = FilePages([file])
    assert all(pages.same(first[name], second[name]) for name in NAMES)
    assert not pages.same(first["one"], second["two"])
    assert not pages.same(first["one"], first["one"].clone())
    assert not pages.same(first["one"], second["one"].view(torch.int32))
    assert not pages.same(first["one"], second["one"].view(64, 64))
    assert not pages.same(first["one"].view(64, 64), second["one"].view(64, 64).T)


def test_a_modified_view_is_not_the_same(file: Path) -> None:
    """Its page is private after the write, also if the value did not change."""
    first, second = views(file), views(file)
    first["two"][7] = 7.0
    assert not FilePages([file]).same(first["two"], second["two"])
    assert torch.equal(first["two"], second["two"])


def test_files_with_equal_content_are_not_the_same(file: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.safetensors"
    other.write_bytes(file.read_bytes())
    first, second = views(file), views(other)
    assert not FilePages([file, other]).same(first["one"], second["one"])
    assert FilePages([file]).place(second["one"]) is None


def test_links_are_resolved(file: Path, tmp_path: Path) -> None:
    link = tmp_path / "link.safetensors"
    link.symlink_to(file)
    first, second = views(file), views(link)
    assert FilePages([link]).same(first["one"], second["one"])


def test_nothing_is_the_same_without_smaps(file: Path, tmp_path: Path) -> None:
    first, second = views(file), views(file)
    assert not FilePages([file], tmp_path / "smaps").same(first["one"], second["one"])
