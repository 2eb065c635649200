"""The committed example models reach the scores in their README, measured on every run."""

from __future__ import annotations

import json
import subprocess
import sys
import tarfile
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

from examples.five_models import evaluate, readme  # noqa: E402  (needs torch)
from examples.five_models.corpus import split  # noqa: E402
from examples.five_models.package import ORIGINALS, needed, pack  # noqa: E402
from examples.five_models.recipes import RECIPES  # noqa: E402

ROOT = Path(evaluate.__file__).parent
ACCURACY = json.loads((ROOT / "accuracy.json").read_text())
REQUESTS = json.loads((ROOT / "requests.json").read_text())
MODELS = list(RECIPES)
# Processors round floats differently, which may change a close answer.
ROUNDING = 0.004


@pytest.fixture(autouse=True)
def one_thread() -> Any:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.mark.parametrize("name", MODELS)
def test_reaches_the_stated_accuracy(name: str) -> None:
    measured = evaluate.accuracy(name, evaluate.ARTIFACTS / name)
    assert measured >= ACCURACY[name]["score"] - ROUNDING


@pytest.mark.parametrize("name", MODELS)
def test_training_text_and_held_out_text_never_meet(name: str) -> None:
    generate = RECIPES[name].generate
    held_out = {example.text for example in split.held_out(generate, 300)}
    stream = split.training(generate, seed=1)
    assert held_out.isdisjoint(next(stream).text for _ in range(5000))


@pytest.mark.parametrize("sample", REQUESTS, ids=lambda sample: sample["name"])
def test_sample_request_gets_its_answer_from_plain_transformers(sample: dict[str, Any]) -> None:
    artifact = str(evaluate.ARTIFACTS / sample["name"])
    answer = ANSWERS[sample["task"]](artifact, sample["request"]["inputs"])
    assert answer == sample["answer"]


def _label(artifact: str, text: str) -> str:
    classify = transformers.pipeline("text-classification", artifact, device="cpu")
    return str(classify(text)[0]["label"])


def _entities(artifact: str, text: str) -> str:
    tag = transformers.pipeline(
        "token-classification", artifact, aggregation_strategy="simple", device="cpu"
    )
    return ", ".join(f"{entity['word']}/{entity['entity_group']}" for entity in tag(text))


def _generated(artifact: str, text: str) -> str:
    tokenizer = transformers.AutoTokenizer.from_pretrained(artifact, local_files_only=True)
    model = transformers.AutoModelForSeq2SeqLM.from_pretrained(artifact, local_files_only=True)
    return evaluate.answers(model, tokenizer, [text])[0]


ANSWERS = {
    "text-classification": _label,
    "token-classification": _entities,
    "translation": _generated,
    "summarization": _generated,
}


def test_all_artifacts_together_stay_small() -> None:
    files = [path for path in evaluate.ARTIFACTS.rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files) <= 15_000_000


def test_every_model_has_an_artifact_a_score_and_a_sample_request() -> None:
    folders = {path.name for path in evaluate.ARTIFACTS.iterdir()}
    assert folders == set(ACCURACY) == {sample["name"] for sample in REQUESTS} == set(MODELS)
    assert set(ORIGINALS) == set(MODELS)


@pytest.mark.parametrize("name", MODELS)
def test_config_tells_the_task(name: str) -> None:
    config = json.loads((evaluate.ARTIFACTS / name / "config.json").read_text())
    expected = {
        "sentiment": "DistilBertForSequenceClassification",
        "translation_en_de": "MarianMTModel",
        "summarization": "BartForConditionalGeneration",
        "ner": "BertForTokenClassification",
        "news_topics": "BertForSequenceClassification",
    }
    assert config["architectures"] == [expected[name]]
    assert ("task_specific_params" in config) == (name == "summarization")


def test_readme_states_the_measured_accuracy() -> None:
    assert readme.table(ACCURACY) in (ROOT / "README.md").read_text()


def test_archives_have_their_files_at_the_root_and_always_the_same_bytes(tmp_path: Path) -> None:
    first, second = tmp_path / "first.tar.gz", tmp_path / "second.tar.gz"
    pack(evaluate.ARTIFACTS / "news_topics", first)
    pack(evaluate.ARTIFACTS / "news_topics", second)
    assert first.read_bytes() == second.read_bytes()
    with tarfile.open(first) as archive:
        assert {"config.json", "model.safetensors", "tokenizer.json"} <= set(archive.getnames())


def test_packaging_needs_only_the_standard_library(tmp_path: Path) -> None:
    script = ROOT / "package.py"
    subprocess.run(
        [sys.executable, "-S", "-I", script, tmp_path, "--only", "ner"], check=True, timeout=60
    )
    assert (tmp_path / "ner.tar.gz").exists()


def test_originals_come_with_one_kind_of_weights() -> None:
    common = ["config.json", "vocab.txt", "README.md", "tf_model.h5", "onnx/model.onnx"]
    both = [*common, "model.safetensors", "pytorch_model.bin", "onnx/config.json"]
    old = [*common, "pytorch_model.bin", "flax_model.msgpack"]
    assert needed(both) == ["model.safetensors", "config.json", "vocab.txt"]
    assert needed(old) == ["pytorch_model.bin", "config.json", "vocab.txt"]


def test_an_unreachable_hub_is_one_clear_line(tmp_path: Path) -> None:
    pytest.importorskip("huggingface_hub")
    finished = subprocess.run(
        [sys.executable, ROOT / "package.py", tmp_path, "--only", "ner", "--hub"],
        env={"HF_ENDPOINT": "http://127.0.0.1:9", "HF_HOME": str(tmp_path), "PATH": ""},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert finished.returncode == 1
    assert finished.stderr.startswith("package.py: cannot download dslim/bert-base-NER: ")
    assert len(finished.stderr.splitlines()) == 1
