"""The digest of an artifact's content: equal for what opens alike, another one for anything else."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from model_handler.artifacts import artifact, content, inspection
from model_handler.artifacts.artifact import Artifact
from tests import artifacts


def digest(directory: Path) -> str:
    return inspection.read(
        str(directory), [str(directory.parent)], default_task=None, dtype="auto", device="cpu"
    ).digest


def test_copies_have_one_digest(classifier: Path, copy: Path) -> None:
    assert digest(classifier) == digest(copy) != ""


def test_other_weights_of_one_structure_are_the_same_content(tmp_path: Path) -> None:
    one = artifacts.bert_classifier(tmp_path / "one", seed=1)
    two = artifacts.bert_classifier(tmp_path / "two", seed=2)
    assert digest(one) == digest(two)


@pytest.mark.parametrize("name", ["config.json", "tokenizer.json", "tokenizer_config.json"])
def test_every_byte_of_a_small_file_counts(classifier: Path, copy: Path, name: str) -> None:
    with (copy / name).open("a") as file:
        file.write(" ")
    assert digest(copy) != digest(classifier)


def _add(directory: Path) -> None:
    (directory / "added.txt").touch()


def _rename(directory: Path) -> None:
    (directory / "tokenizer_config.json").rename(directory / "special_tokens_map.json")


def _link(directory: Path) -> None:
    (directory / "linked").symlink_to(directory.parent)


def _pipe(directory: Path) -> None:
    os.mkfifo(directory / "pipe")


def _header(directory: Path) -> None:
    with (directory / "model.safetensors").open("r+b") as file:
        file.seek(9)
        file.write(b" ")


@pytest.mark.parametrize("change", [_add, _rename, _link, _pipe, _header])
def test_what_opening_depends_on(
    classifier: Path, copy: Path, change: Callable[[Path], None]
) -> None:
    change(copy)
    assert content.digest(copy) != content.digest(classifier)


def test_how_it_is_opened_counts(classifier: Path) -> None:
    assert content.digest(classifier, "a") != content.digest(classifier, "b")


def test_a_file_written_again_is_read_again(copy: Path) -> None:
    before = content.digest(copy)
    file = copy / "config.json"
    file.write_bytes(file.read_bytes().replace(b"bert", b"tree", 1))
    assert content.digest(copy) != before


def test_of_large_files_the_identity_counts(
    classifier: Path, copy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of those that are no safetensors files."""
    for directory in (classifier, copy):
        (directory / "large").write_bytes(b"0" * 4096)
    monkeypatch.setattr(content, "WHOLE_NBYTES", 4095)
    again = content.digest(copy)
    assert content.digest(copy) == again
    assert content.digest(copy) != content.digest(classifier)
    (classifier / "large").unlink()


def test_of_large_pickles_the_members_count(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(content, "WHOLE_NBYTES", 2048)
    for name, fill in (("one", 1.0), ("same", 1.0), ("other", 2.0)):
        (tmp_path / name).mkdir()
        torch.save({"w": torch.full((4096,), fill)}, tmp_path / name / "pytorch_model.bin")
    one, same, other = (content.digest(tmp_path / name) for name in ("one", "same", "other"))
    assert one == same != other


def test_an_artifact_with_code_has_none(tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "handler.py").touch()
    assert digest(tmp_path / "model") == ""


def test_what_was_read_travels_unchanged(copy: Path) -> None:
    (copy / "serving.properties").write_text("option.dtype=bf16\nbatch_size=3\n")
    found: Artifact = artifact.inspect(copy, default_task=None, dtype="auto", device="cpu")
    assert inspection.from_wire(inspection.to_wire(found)) == found
    shutil.rmtree(copy)
