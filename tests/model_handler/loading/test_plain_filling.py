"""Models filled directly from their files are those that transformers' from_pretrained makes."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers

from model_handler.handlers.pipeline import PipelineHandler
from tests import artifacts
from tests.model_handler.harness import Builder, implied_task, loader
from tests.model_handler.tensors_alive import retensor


@pytest.mark.parametrize(
    "build",
    [
        artifacts.bert_classifier,
        artifacts.bert_mlm,
        artifacts.gpt2,
        artifacts.marian,
        artifacts.bart,
        artifacts.t5,
        artifacts.vit,
        artifacts.wav2vec2,
    ],
)
def test_the_same_tensors(build: Builder, tmp_path: Path) -> None:
    _check_same(build(tmp_path / "model"))


def _without_prefix(name: str) -> str:
    return name.removeprefix("bert.")


def _of_old_versions(name: str) -> str:
    return name.replace("LayerNorm.weight", "LayerNorm.gamma")


@pytest.mark.parametrize("rename", [_without_prefix, _of_old_versions])
def test_tensors_of_other_names(rename: Callable[[str], str], tmp_path: Path) -> None:
    directory = artifacts.bert_classifier(tmp_path / "model")
    retensor(directory, lambda tensors: {rename(name): each for name, each in tensors.items()})
    _check_same(directory)


def test_an_ambiguous_name_means_what_it_means_to_transformers(tmp_path: Path) -> None:
    """A pooler beside the one of the encoder, in a file whose other names have no prefix."""
    directory = artifacts.bert_classifier(tmp_path / "model")

    def change(tensors: dict[str, Any]) -> dict[str, Any]:
        doubled = tensors["bert.pooler.dense.bias"] * 2
        return {**tensors, "pooler.dense.bias": doubled}

    retensor(directory, change)
    _check_same(directory)


def test_modules_outside_of_a_load_get_initial_values(classifier: Path) -> None:
    with _handler(classifier):
        assert torch.nn.Linear(2, 2).weight.abs().sum() > 0


def _check_same(directory: Path) -> None:
    """Compare values, types and which names share memory."""
    with _handler(directory) as handler:
        model = handler.model
        theirs = type(model).from_pretrained(str(directory), dtype=torch.float32)
        ours, wanted = _tensors(model), _tensors(theirs)
        assert ours.keys() == wanted.keys()
        for name, tensor in ours.items():
            assert type(tensor) is type(wanted[name])
            assert tensor.dtype == wanted[name].dtype
            assert torch.equal(tensor, wanted[name]), name
        assert _shared(ours) == _shared(wanted)


@contextmanager
def _handler(directory: Path) -> Iterator[PipelineHandler]:
    owner = loader()
    handler = owner.load(directory, implied_task(directory))
    yield handler
    owner.unload(handler)


def _tensors(model: transformers.PreTrainedModel) -> dict[str, torch.Tensor]:
    parameters = model.named_parameters(remove_duplicate=False)
    return {**dict(parameters), **dict(model.named_buffers())}


def _shared(tensors: dict[str, torch.Tensor]) -> set[frozenset[str]]:
    by_place: dict[int, set[str]] = {}
    for name, tensor in tensors.items():
        by_place.setdefault(tensor.data_ptr(), set()).add(name)
    return {frozenset(names) for names in by_place.values()}
