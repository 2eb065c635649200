"""JSON in artifacts that costs more to read than any model's is refused in time."""

import json
import time
from pathlib import Path

import pytest

from tests import artifacts
from tests.model_handler.artifacts.test_files import inspected, refused
from tests.model_handler.harness import loaded
from tests.model_handler.tensors_alive import edit, failure

pytestmark = pytest.mark.usefixtures("no_tracebacks_kept")

DEEP = b'{"a":' + b"[" * 2_000_000
CLOSED = b'{"a":' + b"[" * 100_000 + b"]" * 100_000 + b"}"
MODERATE = b'{"a":' + b"[" * 80 + b"]" * 80 + b', "b": "[[[["}'
WIDE = b'{"a":[' + b"[]," * 1_200_000 + b"0]}"
SMALL_WIDE = b'{"a":[' + b"0," * 300_000 + b"0]}"
NOT_A_NUMBER = b'{"b": NaN, "a":' + b"[" * 2_000_000
SHAPES = (DEEP, CLOSED, MODERATE, WIDE, SMALL_WIDE, NOT_A_NUMBER)


@pytest.mark.parametrize("content", SHAPES, ids=range(len(SHAPES)))
@pytest.mark.parametrize("name", ["config.json", "generation_config.json"])
def test_deep_and_wide_documents_are_refused_at_once(copy: Path, name: str, content: bytes) -> None:
    (copy / name).write_bytes(content)
    began = time.process_time()
    assert name in refused(copy)
    assert time.process_time() - began < 2


@pytest.mark.parametrize("name", ["tokenizer.json", "tokenizer_config.json"])
def test_deep_tokenizers_are_refused(copy: Path, name: str) -> None:
    (copy / name).write_bytes(DEEP)
    assert name in failure(copy)


def test_twenty_thousand_labels_are_read(tmp_path: Path) -> None:
    path = artifacts.bert_classifier(tmp_path)
    labels = {str(number): f"species [{number}], of a genus" for number in range(22_000)}
    edit(path / "config.json", task_specific_params=labels)
    assert inspected(path).task == "text-classification"


def test_brackets_in_strings_are_not_nesting(copy: Path) -> None:
    edit(copy / "config.json", note="[" * 500, escaped='\\"[' * 500)
    with loaded(copy):
        pass


def test_not_a_number_is_read(copy: Path) -> None:
    text = json.dumps(json.loads((copy / "config.json").read_bytes()) | {"x": float("nan")})
    (copy / "config.json").write_text(text)
    inspected(copy)
