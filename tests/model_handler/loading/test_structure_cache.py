"""A model built from a cached structure equals the model that transformers builds."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers

from model_handler.loading.loader import TorchLoader
from model_handler.loading.structure_cache import StructureCache
from tests import artifacts
from tests.model_handler.harness import answers, implied_task, loader
from tests.model_handler.tensors_alive import edit, failure, retensor

TEXT = {"inputs": "the film was a wonderful surprise"}
PAIR = {"inputs": {"question": "what jumps?", "context": "the quick brown fox jumps"}}
MASKED = {"inputs": "the quick [MASK] fox"}
GREEDY = TEXT | {"parameters": {"do_sample": False, "max_new_tokens": 8}}
KINDS: dict[Callable[..., Path], dict[str, Any]] = {
    artifacts.bert_classifier: TEXT,
    artifacts.bert_ner: TEXT,
    artifacts.bert_qa: PAIR,
    artifacts.bert_mlm: MASKED,
    artifacts.bert_encoder: TEXT,
    artifacts.gpt2: GREEDY,
    artifacts.marian: TEXT,
    artifacts.bart: TEXT,
    artifacts.mbart: TEXT | {"parameters": {"src_lang": "en_XX", "tgt_lang": "fr_XX"}},
    artifacts.t5: TEXT,
}


def known(owner: TorchLoader) -> int:
    return len(owner.structure_cache)


def both(tmp_path: Path, build: Callable[..., Path]) -> tuple[Path, Path]:
    return build(tmp_path / "one", seed=1), build(tmp_path / "two", seed=2)


@pytest.mark.parametrize("build", KINDS, ids=lambda build: build.__name__)
def test_a_model_from_a_cached_structure_gives_the_same_answers(
    build: Callable[..., Path], tmp_path: Path
) -> None:
    """Same answers and same nbytes; tied weights count once; both models are freed."""
    one, two = both(tmp_path, build)
    document, task = KINDS[build], implied_task(one)
    fresh = loader()
    plain = fresh.load(two, task)
    expected = answers(plain, document)
    owner = loader()
    first = owner.load(one, task)
    assert known(owner) == 1
    second = owner.load(two, task)
    assert known(owner) == 1
    assert second.nbytes == plain.nbytes
    assert answers(second, document) == expected != answers(first, document)
    assert owner.unload(first) == 0
    assert answers(second, document) == expected
    assert owner.unload(second) == fresh.unload(plain) == 0


def test_labels_are_those_of_the_artifact(tmp_path: Path) -> None:
    owner = loader()
    directories = [
        artifacts.bert_classifier(tmp_path / name, labels=(f"{name}-low", f"{name}-high"))
        for name in ("a", "b")
    ]
    handlers = [owner.load(directory, "text-classification") for directory in directories]
    assert known(owner) == 1
    labels = [answers(handler, TEXT)[0][0]["label"][0] for handler in handlers]
    assert labels == ["a", "b"]


def test_another_shape_or_setting_is_another_structure(tmp_path: Path) -> None:
    owner = loader()
    one, two = both(tmp_path, artifacts.bert_classifier)
    edit(two / "config.json", layer_norm_eps=0.1)
    other = artifacts.bert_classifier(tmp_path / "three", labels=("a", "b", "c"))
    for directory in (one, two, other):
        owner.load(directory, "text-classification")
    assert known(owner) == 3


def test_a_missing_weight_fails_also_with_a_cached_structure(tmp_path: Path) -> None:
    owner = loader()
    one, two = both(tmp_path, artifacts.bert_classifier)
    owner.load(one, "text-classification")
    retensor(two, lambda tensors: {k: v for k, v in tensors.items() if k != "classifier.bias"})
    with pytest.raises(Exception, match=r"classifier\.bias"):
        owner.load(two, "text-classification")
    assert "classifier.bias" in failure(two)


def test_half_precision_is_cast_as_transformers_does(tmp_path: Path) -> None:
    one, two = both(tmp_path, artifacts.bert_classifier)
    for directory in (one, two):
        retensor(directory, lambda tensors: {k: v.to(torch.float16) for k, v in tensors.items()})
    plain = answers(loader().load(two, "text-classification"), TEXT)
    owner = loader()
    owner.load(one, "text-classification")
    assert answers(owner.load(two, "text-classification"), TEXT) == plain
    assert known(owner) == 1


def test_a_structure_that_is_not_self_contained_is_not_cached(tmp_path: Path) -> None:
    """The class of a parametrized convolution refers to one module."""
    owner = loader()
    directory = artifacts.wav2vec2(tmp_path / "speech")
    for _ in range(2):
        assert owner.unload(owner.load(directory, "automatic-speech-recognition")) == 0
    assert known(owner) == 0


def test_the_structure_used_longest_ago_leaves_a_full_cache() -> None:
    cache, config = StructureCache(most=2), transformers.BertConfig()
    for key in ("one", "two", "three"):
        module: Any = torch.nn.Module()
        module.config = config
        assert cache.learn(key, module, [])
        assert cache.build("one", [], config) is not None
    assert len(cache) == 2
    assert cache.build("two", [], config) is None
