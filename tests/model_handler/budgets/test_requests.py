"""Requests that ask for too much are refused before memory or long time is spent on them."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from model_handler.device.device import CpuDevice
from model_handler.handlers.pipeline import PipelineHandler
from model_handler.loading.loader import TorchLoader
from model_handler.messages import InferenceResponse, Refusal
from model_handler.options import RequestLimits, WorkerOptions
from model_handler.sharing.turnstile import Turnstile
from model_handler.worker.forward import finish, prepare
from tests import artifacts
from tests.model_handler.budgets.refusals import refused
from tests.model_handler.harness import answers, request, run


def labelled(inputs: Any, **parameters: Any) -> dict[str, Any]:
    return {"inputs": inputs, "parameters": {"candidate_labels": ["a", "b"], **parameters}}


LONG = "good " * 25_000  # 125,000 characters, within the limit
TOO_LONG = "good " * 110_000

REFUSED = [
    # units
    ("text-classification", {"inputs": ["a"] * 200_000}, "MME_MAX_UNITS"),
    ("fill-mask", {"inputs": ["good [MASK]"] * 5000}, "MME_MAX_UNITS"),
    ("summarization", {"inputs": ["good"] * 5000}, "MME_MAX_UNITS"),
    (
        "zero-shot-classification",
        {"inputs": ["good"] * 100, "parameters": {"candidate_labels": ["a"] * 1000}},
        "MME_MAX_UNITS",
    ),
    (
        "zero-shot-classification",
        {"inputs": "good", "parameters": {"candidate_labels": ",".join("a" * 10_000)}},
        "MME_MAX_UNITS",
    ),
    (
        "question-answering",
        {"inputs": {"question": ["who"] * 5000, "context": "he is good"}},
        "MME_MAX_UNITS",
    ),
    ("text-generation", {"inputs": [{"role": "user", "content": ""}] * 5000}, "MME_MAX_UNITS"),
    # characters
    *(
        (name, {"inputs": TOO_LONG}, "MME_MAX_TEXT")
        for name in ("text-classification", "translation")
    ),
    ("feature-extraction", {"inputs": [LONG] * 5}, "MME_MAX_TEXT"),
    ("text-generation", {"inputs": [{"role": "user", "content": TOO_LONG}]}, "MME_MAX_TEXT"),
    ("text-generation", {"inputs": ["a"] * 100, "parameters": {"prefix": LONG}}, "MME_MAX_TEXT"),
    (
        "question-answering",
        {"inputs": {"question": ["who"] * 100, "context": "good " * 2000}},
        "MME_MAX_TEXT",
    ),
    ("zero-shot-classification", labelled(LONG, candidate_labels=["a"] * 50), "MME_MAX_TEXT"),
    (
        "zero-shot-classification",
        labelled("a", hypothesis_template="{}" + TOO_LONG),
        "MME_MAX_TEXT",
    ),
    ("fill-mask", {"inputs": "[MASK]", "parameters": {"targets": [TOO_LONG]}}, "MME_MAX_TEXT"),
    # templates
    *(
        ("zero-shot-classification", labelled("good", hypothesis_template=template), "template")
        for template in (
            "{:1000000000}",
            "{0.__class__}",
            "{!r:9999999}",
            "{}{}",
            "no",
            5,
            "{{}} {}",
        )
    ),
    # windows, padding and truncation
    (
        "token-classification",
        {"inputs": LONG, "parameters": {"stride": 61, "aggregation_strategy": "simple"}},
        "MME_MAX_",
    ),
    *(
        (
            "token-classification",
            {"inputs": LONG, "parameters": {"stride": stride, "aggregation_strategy": "simple"}},
            "stride",
        )
        for stride in (62, 63, 64, 10**9, -1, 1.5)
    ),
    *(
        ("text-classification", {"inputs": "good " * 400, "parameters": parameters}, wanted)
        for parameters, wanted in (
            ({"max_length": 10**9, "padding": "max_length"}, "MME_MAX_TOKENS"),
            ({"max_length": 0}, "max_length"),
            ({"max_length": 2}, "max_length"),
            ({"max_length": 60, "stride": 59}, "stride"),
            ({"stride": 64}, "stride"),
            ({"stride": -1}, "stride"),
        )
    ),
    *(
        (
            name,
            {
                "inputs": "good [MASK]",
                "parameters": {key: {"max_length": 10**9, "padding": "max_length"}},
            },
            "",
        )
        for name, key in (
            ("feature-extraction", "tokenize_kwargs"),
            ("fill-mask", "tokenizer_kwargs"),
        )
    ),
    (
        "text-classification",
        {"inputs": ["good"] * 4000, "parameters": {"max_length": 1000, "padding": "max_length"}},
        "MME_MAX_TOKENS",
    ),
    (
        "question-answering",
        {"inputs": {"question": "who " * 300, "context": "good " * 60}},
        "max_question_len",
    ),
    (
        "question-answering",
        {
            "inputs": {"question": "who", "context": LONG},
            "parameters": {"max_seq_len": 384, "doc_stride": 375},
        },
        "MME_MAX_",
    ),
    *(
        (
            "question-answering",
            {"inputs": {"question": "who", "context": "good " * 60}, "parameters": parameters},
            wanted,
        )
        for parameters, wanted in (
            ({"doc_stride": 64}, "doc_stride"),
            ({"doc_stride": -1}, "doc_stride"),
            ({"doc_stride": "1"}, "doc_stride"),
            ({"max_seq_len": 1}, "max_seq_len"),
            ({"max_seq_len": 6, "doc_stride": 5}, "max_seq_len"),
            ({"max_seq_len": 10**9}, "max_seq_len"),
            ({"top_k": 10**9}, "top_k"),
        )
    ),
    # answers
    ("fill-mask", {"inputs": ["[MASK]"] * 1000, "parameters": {"top_k": 10_000}}, "MME_MAX_VALUES"),
    # generated tokens
    *(
        (
            "text2text-generation",
            {"inputs": inputs, "parameters": parameters},
            "MME_MAX_GENERATED_TOKENS",
        )
        for inputs, parameters in (
            ("good", {"max_new_tokens": 100_000}),
            ("good", {"max_new_tokens": 1000, "num_beams": 64}),
            ("good", {"max_new_tokens": 1000, "num_return_sequences": 64, "do_sample": True}),
            (["good"] * 1000, {"max_length": 100}),
        )
    ),
    (
        "text-generation",
        {"inputs": ["good"] * 20, "parameters": {"max_new_tokens": 40, "num_beams": 64}},
        "MME_MAX_GENERATED",
    ),
    # audio
    (
        "automatic-speech-recognition",
        {"inputs": {"raw": [0.0], "sampling_rate": 16000}},
        "too small",
    ),
    (
        "automatic-speech-recognition",
        {"inputs": {"raw": [0.0] * 40, "sampling_rate": 16000}},
        "too small",
    ),
    *(
        (
            "automatic-speech-recognition",
            {"inputs": {"raw": [0.0] * 160_000, "sampling_rate": 16000}, "parameters": parameters},
            wanted,
        )
        for parameters, wanted in (
            ({"chunk_length_s": 0.001}, "MME_MAX_UNITS"),
            ({"chunk_length_s": 1, "stride_length_s": 0.5}, "longer than both"),
            ({"chunk_length_s": -1}, "chunk_length_s"),
            ({"chunk_length_s": "1"}, "chunk_length_s"),
            ({"chunk_length_s": 1, "stride_length_s": [0.4999, 0.5]}, "MME_MAX_UNITS"),
        )
    ),
]


@pytest.mark.parametrize(
    ("name", "document", "wanted"),
    REFUSED,
    ids=[f"{number}-{name}-{wanted}" for number, (name, _, wanted) in enumerate(REFUSED)],
)
def test_refused(
    handlers: Callable[[str], PipelineHandler], name: str, document: Any, wanted: str
) -> None:
    assert wanted in refused(handlers(name), document)


def test_long_questions_are_answered_where_they_fit(
    handlers: Callable[[str], PipelineHandler],
) -> None:
    """The question leaves less room than two windows usually have in common."""
    context = "the good is bad " * 20
    (found,) = answers(
        handlers("question-answering"), {"inputs": {"question": "who " * 12, "context": context}}
    )
    assert found["answer"] in context
    cut = {"inputs": {"question": "who " * 300, "context": context}}
    cut["parameters"] = {"max_question_len": 10}  # type: ignore[dict-item]
    assert answers(handlers("question-answering"), cut)[0]["answer"] in context


ASKED = [
    ("text-classification", {"inputs": ["good"] * 500}),
    ("text-classification", {"inputs": "good " * 50_000}),
    ("feature-extraction", {"inputs": "good " * 50_000}),
    (
        "token-classification",
        {"inputs": "good " * 500, "parameters": {"stride": 20, "aggregation_strategy": "simple"}},
    ),
    ("question-answering", {"inputs": {"question": "who", "context": "good " * 5000}}),
    ("zero-shot-classification", labelled(["good"] * 20, candidate_labels=["a"] * 20)),
    ("text-generation", {"inputs": "good", "parameters": {"max_new_tokens": 60, "num_beams": 4}}),
]


@pytest.mark.parametrize(("name", "document"), ASKED)
def test_what_is_within_the_limits_is_answered(
    handlers: Callable[[str], PipelineHandler], name: str, document: Any
) -> None:
    assert answers(handlers(name), document)


def test_preparation_ends_at_the_deadline(handlers: Callable[[str], PipelineHandler]) -> None:
    handler = handlers("zero-shot-classification")
    document = labelled(["good " * 10] * 60, candidate_labels=["a"] * 60)
    now = time.monotonic()
    late, soon = prepare(handler, [request(document)], deadline=now - 1), None
    began = time.monotonic()
    soon = prepare(handler, [request(document)] * 3, deadline=began + 0.01)
    assert time.monotonic() - began < 2
    for batch in (late, soon):
        for result in finish(batch):
            assert isinstance(result, Refusal)
            assert result.error == "DeadlineExceeded"


def test_limits_are_settings(tmp_path: Path) -> None:
    """A smaller limit refuses what the default allows."""
    limits = RequestLimits(units=3, text_characters=100)
    owner = TorchLoader(CpuDevice(), Turnstile(), WorkerOptions(limits=limits))
    handler = owner.load(artifacts.bert_classifier(tmp_path), "text-classification")
    assert "3 (MME_MAX_UNITS)" in refused(handler, {"inputs": ["a"] * 4})
    assert "100 (MME_MAX_TEXT)" in refused(handler, {"inputs": ["a" * 51] * 2})
    (result,) = run(handler, {"inputs": ["a"] * 3})
    assert isinstance(result, InferenceResponse)
