"""Requests that ask for too much are refused before memory or long time is spent on them."""

import base64
import io
import math
import struct
import time
import wave
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from model_handler.device.device import CpuDevice
from model_handler.handlers.pipeline import PipelineHandler
from model_handler.loading.loader import TorchLoader
from model_handler.messages import InferenceRequest, InferenceResponse, Refusal
from model_handler.options import RequestLimits, WorkerOptions
from model_handler.sharing.turnstile import Turnstile
from model_handler.worker.forward import finish, prepare
from tests import artifacts
from tests.model_handler.harness import answers, loaded, refusal, request, run

Build = Callable[..., Path]
SECONDS = 2.0  # CPU time of a refusal, at most

TEXTS: dict[str, tuple[Build, str]] = {
    "text-classification": (artifacts.bert_classifier, "text-classification"),
    "zero-shot-classification": (artifacts.bert_nli, "zero-shot-classification"),
    "token-classification": (artifacts.bert_ner, "token-classification"),
    "question-answering": (artifacts.bert_qa, "question-answering"),
    "fill-mask": (artifacts.bert_mlm, "fill-mask"),
    "feature-extraction": (artifacts.bert_encoder, "feature-extraction"),
    "text-generation": (artifacts.gpt2, "text-generation"),
    "summarization": (artifacts.bart, "summarization"),
    "text2text-generation": (artifacts.t5, "text2text-generation"),
    "translation": (artifacts.marian, "translation"),
    "image-classification": (artifacts.vit, "image-classification"),
    "automatic-speech-recognition": (artifacts.wav2vec2, "automatic-speech-recognition"),
}


@pytest.fixture(scope="module")
def handlers(
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Callable[[str], PipelineHandler]]:
    open_blocks: dict[str, Any] = {}
    opened: dict[str, PipelineHandler] = {}

    def handler(name: str) -> PipelineHandler:
        if name not in opened:
            build, task = TEXTS[name]
            block = loaded(build(tmp_path_factory.mktemp(name)), task)
            opened[name], open_blocks[name] = block.__enter__(), block
        return opened[name]

    yield handler
    opened.clear()
    for block in open_blocks.values():
        next(block.gen, None)


def refused(handler: PipelineHandler, document: Any) -> str:
    """The message of the refusal as an invalid request, which took little time."""
    began = time.thread_time()
    result = refusal(handler, document)
    assert time.thread_time() - began < SECONDS
    assert result.error in ("InvalidRequest", "UnsupportedContentType"), result
    return result.message


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


def png(width: int, height: int) -> bytes:
    """A black image of a few kilobytes."""
    rows = zlib.compressobj(9)
    data = b"".join(rows.compress(bytes(width // 8 + 2)) for _ in range(height)) + rows.flush()
    header = struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0)

    def chunk(kind: bytes, content: bytes) -> bytes:
        check = struct.pack(">I", zlib.crc32(kind + content))
        return struct.pack(">I", len(content)) + kind + content + check

    signature = b"\x89PNG\r\n\x1a\n"
    return signature + chunk(b"IHDR", header) + chunk(b"IDAT", data) + chunk(b"IEND", b"")


def icon(inner: bytes) -> bytes:
    """An icon that says 16 × 16 in its own header."""
    return struct.pack("<HHHBBBBHHII", 0, 1, 1, 16, 16, 0, 0, 1, 32, len(inner), 22) + inner


@pytest.mark.parametrize("body", [png(13_000, 13_000), icon(png(13_000, 13_000))])
def test_a_large_image_is_not_decoded(
    handlers: Callable[[str], PipelineHandler], body: bytes
) -> None:
    handler = handlers("image-classification")
    refused(handler, InferenceRequest(body, "image/png"))
    refused(handler, {"inputs": base64.b64encode(body).decode()})


def test_many_images_are_counted_together(handlers: Callable[[str], PipelineHandler]) -> None:
    one = base64.b64encode(png(5000, 4900)).decode()
    message = refused(handlers("image-classification"), {"inputs": [one] * 8})
    assert "MME_MAX_PIXELS" in message


def test_a_long_recording_is_not_decoded(handlers: Callable[[str], PipelineHandler]) -> None:
    stream = io.BytesIO()
    with wave.open(stream, "wb") as file:
        file.setparams((1, 1, 16_000, 0, "NONE", ""))
        file.writeframes(bytes(16_000 * 1800))
    handler = handlers("automatic-speech-recognition")
    for body in (InferenceRequest(stream.getvalue(), "audio/wav"),):
        assert "MME_MAX_AUDIO" in refused(handler, body)


@pytest.mark.parametrize("value", [b"[]", b"{}", b"0"])
def test_json_of_many_values_is_not_parsed(
    handlers: Callable[[str], PipelineHandler], value: bytes
) -> None:
    body = b'{"inputs":[' + b",".join([value] * 5_000_000) + b"]}"
    for media in ("application/json", None):
        message = refused(handlers("text-classification"), InferenceRequest(body, media))
        assert "MME_MAX_VALUES" in message


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


def unlikely(tokens: int) -> Iterator[dict[str, Any]]:
    """Parameters that could leave no token, or a distribution that is none."""
    every = [[token] for token in range(tokens)]
    most = list(range(tokens - 1))
    yield {"temperature": 1e-40}
    yield {"temperature": 0.01, "repetition_penalty": 100, "guidance_scale": 100}
    yield {"repetition_penalty": 1e-300}
    yield {"sequence_bias": [[[5], math.inf]]}
    yield {"sequence_bias": [[token, -10_000] for token in every] * 2}
    yield {"bad_words_ids": every}
    yield {"bad_words_ids": every, "num_beams": 4}
    yield {"bad_words_ids": every, "remove_invalid_values": True, "renormalize_logits": True}
    yield {"suppress_tokens": [*most, tokens - 1]}
    yield {"suppress_tokens": most, "begin_suppress_tokens": [tokens - 1]}
    yield {"suppress_tokens": most, "bad_words_ids": [[tokens - 1]]}
    yield {"suppress_tokens": list(range(1, tokens)), "min_new_tokens": 3}
    yield {"suppress_tokens": list(range(10, tokens)), "num_beams": 64}
    yield {"suppress_tokens": [0], "forced_eos_token_id": 0}
    yield {"min_p": 1.0, "top_k": 1, "top_p": 0.0, "typical_p": 0.001, "epsilon_cutoff": 1.0}
    yield {"top_k": 1, "num_beams": 4}
    yield {"guidance_scale": 1e308}
    yield {"exponential_decay_length_penalty": [0, 100], "max_new_tokens": 50}
    yield {"forced_eos_token_id": tokens}
    yield {"pad_token_id": -1}


def test_no_parameters_are_taken_for_a_fault_of_the_model(
    handlers: Callable[[str], PipelineHandler],
) -> None:
    """They are refused, or there is an answer: on a GPU another outcome ends the worker of all models."""
    handler = handlers("text-generation")
    tokens = handler.model.config.vocab_size
    refusals = 0
    for parameters in unlikely(tokens):
        whole = {"do_sample": True, "max_new_tokens": 3, **parameters}
        (result,) = run(handler, {"inputs": "the good", "parameters": whole})
        if isinstance(result, Refusal):
            assert result.error == "InvalidRequest", (parameters, result)
            refusals += 1
    assert refusals > 8
