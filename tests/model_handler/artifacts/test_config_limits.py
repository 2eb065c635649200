"""Numbers in an artifact's JSON that would cost memory or time are refused before anything is built."""

import json
import resource
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch

from tests import artifacts
from tests.model_handler.harness import implied_task, loaded
from tests.model_handler.tensors_alive import edit, failure

pytestmark = pytest.mark.usefixtures("no_tracebacks_kept")


def peak_nbytes() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def refused_cheaply(path: Path, task: str | None = None) -> str:
    before, began = peak_nbytes(), time.process_time()
    reason = failure(path, task)
    assert peak_nbytes() - before < 200 << 20
    assert time.process_time() - began < 5
    return reason


BERT: list[dict[str, Any]] = [
    {"num_hidden_layers": 30_000},
    {"num_hidden_layers": 3_000},
    {"num_hidden_layers": -1},
    {"num_hidden_layers": 1e6},
    {"num_attention_heads": 10**6, "hidden_size": 10**6},
    {"vocab_size": 20_000_000},
    {"vocab_size": 10**9},
    {"intermediate_size": 10**8},
    {"max_position_embeddings": 10**9},
    {"max_position_embeddings": 10**7},
    {"type_vocab_size": 10**8},
    {"num_labels": 10**7},
    {"text_config": {"num_hidden_layers": 10**6}},
    {"depths": [2, 10**7]},
]


@pytest.mark.parametrize("fields", BERT, ids=lambda fields: json.dumps(fields))
def test_configurations_larger_than_the_weights_are_refused(
    copy: Path, fields: dict[str, Any]
) -> None:
    if "num_labels" in fields:
        document = json.loads((copy / "config.json").read_bytes())
        kept = {key: value for key, value in document.items() if "label" not in key}
        (copy / "config.json").write_text(json.dumps(kept))
    edit(copy / "config.json", **fields)
    refused_cheaply(copy)


@pytest.mark.parametrize(
    ("build", "fields"),
    [
        (artifacts.gpt2, {"n_positions": 100_000, "n_ctx": 100_000}),
        (artifacts.gpt2, {"n_layer": 20_000}),
        (artifacts.t5, {"relative_attention_num_buckets": 10**8}),
        (artifacts.t5, {"num_decoder_layers": 50_000}),
        (artifacts.bart, {"decoder_layers": 50_000}),
        (artifacts.bart, {"max_position_embeddings": 5_000_000}),
    ],
)
def test_other_families(build: Callable[..., Path], fields: dict[str, Any], tmp_path: Path) -> None:
    path = build(tmp_path)
    edit(path / "config.json", **fields)
    refused_cheaply(path, implied_task(path))


@pytest.mark.parametrize(
    "fields",
    [
        {"size": {"height": 1_000_000, "width": 1_000_000}},
        {"size": 1_000_000},
        {"crop_size": {"height": 1_000_000, "width": 32}},
        {"size": {"shortest_edge": 10**9}},
    ],
)
def test_pictures_of_a_million_pixels_an_edge_are_refused(
    tmp_path: Path, fields: dict[str, Any]
) -> None:
    path = artifacts.vit(tmp_path)
    edit(path / "preprocessor_config.json", **fields)
    assert "preprocessor_config.json" in refused_cheaply(path, "image-classification")


@pytest.mark.parametrize(
    "fields",
    [
        {"sampling_rate": 10**12},
        {"sampling_rate": 48_000, "chunk_length": 100_000},
        {"feature_size": 10**9},
        {"n_fft": 10**9},
    ],
)
def test_sound_of_days_is_refused(tmp_path: Path, fields: dict[str, Any]) -> None:
    path = artifacts.wav2vec2(tmp_path)
    edit(path / "preprocessor_config.json", **fields)
    reason = refused_cheaply(path, "automatic-speech-recognition")
    assert "preprocessor_config.json" in reason


def test_a_pickle_with_tensors_larger_than_its_file_is_refused(copy: Path) -> None:
    """A tensor with strides of 0 has one row in the file and any number of rows in the model."""
    tensors = safetensors.torch.load_file(copy / "model.safetensors")
    (copy / "model.safetensors").unlink()
    name, rows = "bert.embeddings.word_embeddings.weight", 15_000_000
    tensors[name] = tensors[name][:1].expand(rows, -1)
    torch.save(tensors, copy / "pytorch_model.bin")
    edit(copy / "config.json", vocab_size=rows)
    refused_cheaply(copy)


def test_numbers_that_build_nothing_are_ignored(copy: Path) -> None:
    trained = {"trained_tokens": 3 * 10**12, "rope_theta": 10**10, "max_length": 10**9}
    edit(copy / "config.json", **trained, layer_norm_eps=1e-12)
    with loaded(copy):
        pass
