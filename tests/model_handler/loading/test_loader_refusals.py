"""Artifacts that cannot be loaded: a one-line error, and the failed load frees everything."""

import pickle
from pathlib import Path
from typing import Any

import pytest
import torch

from tests import artifacts
from tests.model_handler.harness import answers, loaded
from tests.model_handler.tensors_alive import (
    edit,
    failure,
)

pytestmark = pytest.mark.usefixtures("no_tracebacks_kept")
TEXT = {"inputs": "the film was a wonderful surprise"}


def test_truncated_weights_fail(copy: Path) -> None:
    file = copy / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-1000])
    assert "model.safetensors" in failure(copy)


@pytest.mark.parametrize("content", [b"", b"garbage", b"\xff" * 64, b"\x10" + b"\0" * 7 + b"{}"])
def test_invalid_safetensors_fail(copy: Path, content: bytes) -> None:
    (copy / "model.safetensors").write_bytes(content)
    assert "safetensor" in failure(copy).lower()


def test_a_missing_head_is_not_initialised_randomly(tmp_path: Path) -> None:
    artifacts.bert_mlm(tmp_path)
    message = failure(tmp_path, "text-classification")
    assert "classifier.weight" in message
    assert "missing" in message


def test_missing_layers_fail(copy: Path) -> None:
    edit(copy / "config.json", num_hidden_layers=3)
    message = failure(copy)
    assert "encoder.layer.2" in message
    assert "13 more" in message


def test_wrong_shapes_fail(copy: Path) -> None:
    edit(copy / "config.json", id2label={str(each): str(each) for each in range(5)})
    message = failure(copy)
    assert "classifier" in message
    assert "(2,)" in message or "(2, 32)" in message
    assert "(5,)" in message or "(5, 32)" in message


@pytest.mark.parametrize("name", ["config.json", "model.safetensors", "tokenizer.json"])
def test_missing_files_fail(copy: Path, name: str) -> None:
    (copy / name).unlink()
    if name == "tokenizer.json":
        (copy / "tokenizer_config.json").unlink()
    failure(copy)


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"\xff"])
@pytest.mark.parametrize("name", ["config.json", "tokenizer.json"])
def test_invalid_json_files_fail(copy: Path, name: str, content: bytes) -> None:
    (copy / name).write_bytes(content)
    failure(copy)


class Payload:
    """Unpickling it would write a file."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> Any:
        return Path.write_text, (self.target, "code was run")


def test_a_pickle_with_code_is_refused_and_not_run(copy: Path, tmp_path: Path) -> None:
    (copy / "model.safetensors").unlink()
    target = tmp_path / "proof"
    with (copy / "pytorch_model.bin").open("wb") as stream:
        pickle.dump({"x": Payload(target)}, stream)
    failure(copy)
    torch.save({"x": Payload(target)}, copy / "pytorch_model.bin")
    failure(copy)
    assert not target.exists()


@pytest.mark.parametrize(
    "fields",
    [
        {"auto_map": {"AutoConfig": "code.Config"}, "model_type": "something-new"},
        {"transformers_weights": "../other.bin"},
        {"fusion_config": {"x": 1}},
        {"custom_pipelines": {"x": {"impl": "code.Pipeline"}}},
        {"model_type": "no-such-model"},
        {"hidden_size": 33},
        {"hidden_size": "wide"},
        {"num_attention_heads": 5},
    ],
)
def test_unsupported_configurations_fail(copy: Path, fields: dict[str, Any]) -> None:
    (copy / "code.py").write_text("raise SystemExit")
    edit(copy / "config.json", **fields)
    failure(copy)


def test_code_beside_the_weights_is_not_run(copy: Path, tmp_path: Path) -> None:
    """A known model type that also names its own code is built from transformers' classes."""
    target = tmp_path / "proof"
    code = f"open({str(target)!r}, 'w').write('code was run')"
    for name in ("code.py", "custom_generate/generate.py"):
        (copy / name).parent.mkdir(exist_ok=True)
        (copy / name).write_text(code)
    edit(copy / "config.json", auto_map={"AutoModelForSequenceClassification": "code.Model"})
    edit(copy / "tokenizer_config.json", auto_map={"AutoTokenizer": ["code.T", "code.T"]})
    with loaded(copy) as handler:
        answers(handler, TEXT)
    assert not target.exists()


def test_a_task_that_does_not_fit_the_model_fails(classifier: Path) -> None:
    assert "bert" in failure(classifier, "automatic-speech-recognition")
    assert "did you mean" in failure(classifier, "text-clasification")
