"""For every task, batched answers equal those of the plain transformers pipeline for each request."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from model_handler.codecs.toolkit import decode
from model_handler.handlers.pipeline import PipelineHandler
from model_handler.messages import InferenceRequest, InferenceResponse, Refusal
from tests import artifacts
from tests.model_handler.harness import answers, loaded, refusal, request, run
from tests.model_handler.pairs import LONG, TEXTS, Pair, assert_same, groups, pair

# ---- text ----


def test_text_classification(classifier: Pair) -> None:
    classifier.check(
        [
            *({"inputs": text} for text in TEXTS),
            {"inputs": TEXTS},
            {"inputs": TEXTS[:1]},
            {"inputs": TEXTS[1], "parameters": {"top_k": None}},
            {"inputs": TEXTS[1], "parameters": {"top_k": 1}},
            {"inputs": TEXTS, "parameters": {"top_k": 2, "function_to_apply": "sigmoid"}},
            {"inputs": TEXTS[2], "parameters": {"function_to_apply": "none"}},
            {"inputs": {"text": TEXTS[1], "text_pair": TEXTS[2]}},
            {"inputs": [{"text": TEXTS[1], "text_pair": TEXTS[0]}]},
            {"inputs": TEXTS[2], "parameters": {"truncation": True, "max_length": 5}},
        ]
    )


@pytest.mark.parametrize(
    ("problem", "labels"),
    [
        ("regression", ("score",)),
        (None, ("score",)),
        ("multi_label_classification", ("a", "b", "c")),
        ("single_label_classification", ("a", "b", "c")),
    ],
)
def test_score_functions_of_problem_types(
    tmp_path: Path, problem: str | None, labels: tuple[str, ...]
) -> None:
    artifacts.bert_classifier(tmp_path, labels=labels)
    file = tmp_path / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"problem_type": problem}))
    with loaded(tmp_path, "text-classification") as handler:
        Pair(tmp_path, "text-classification", handler).check(
            [*({"inputs": text} for text in TEXTS), {"inputs": TEXTS[:2]}]
        )


def test_postprocessing_parameters_do_not_split_a_batch(classifier: Pair) -> None:
    documents: list[dict[str, Any]] = [
        {"inputs": TEXTS[0]},
        {"inputs": TEXTS[1], "parameters": {"top_k": None}},
        {"inputs": TEXTS},
    ]
    assert groups(classifier.handler, *documents) == 1


def test_a_text_that_cannot_be_tokenized_does_not_affect_its_batch(
    classifier: Pair,
) -> None:
    half = b'{"inputs": "half of a pair: \\ud83d"}'
    good, bad, empty = run(classifier.handler, {"inputs": TEXTS[0]}, half, {"inputs": ""})
    assert isinstance(good, InferenceResponse)
    assert_same(json.loads(good.body), classifier.plain({"inputs": TEXTS[0]}))
    assert isinstance(bad, Refusal)
    assert bad.error == "InvalidRequest"
    assert isinstance(empty, InferenceResponse)
    assert_same(json.loads(empty.body), classifier.plain({"inputs": ""}))


def test_texts_beyond_the_models_maximum_are_truncated(classifier: Pair) -> None:
    long = " ".join([LONG] * 30)
    (ours,) = answers(classifier.handler, {"inputs": long})
    assert_same(ours, classifier.plain({"inputs": long}, truncation=True, max_length=64))


def test_long_texts_without_truncation_are_refused(classifier: Pair) -> None:
    document = {"inputs": " ".join([LONG] * 30), "parameters": {"truncation": False}}
    result = refusal(classifier.handler, document)
    assert result.error == "InvalidRequest"
    assert "at most 64" in result.message
    assert "tokens" in result.message


@pytest.mark.parametrize(
    ("document", "complaint"),
    [
        ({"inputs": "x", "parameters": {"topk": 1}}, "'topk'"),
        ({"inputs": "x", "parameters": {"return_tensors": "np"}}, "'return_tensors'"),
        ({"inputs": "x", "parameters": {"inputs": "y"}}, "'inputs'"),
        ({"inputs": "x", "parameters": {"function_to_apply": "relu"}}, "softmax"),
        ({"inputs": 3}, "number"),
        ({"inputs": None}, "null"),
        ({"inputs": []}, "empty"),
        ({"inputs": {"txt": "x"}}, ""),
        ({"inputs": [3, None]}, ""),
    ],
)
def test_bad_requests_are_refused(
    classifier: Pair, document: dict[str, Any], complaint: str
) -> None:
    result = refusal(classifier.handler, document)
    assert result.error == "InvalidRequest"
    assert complaint in result.message


def test_bad_requests_do_not_affect_their_batch(classifier: Pair) -> None:
    good = {"inputs": TEXTS[1]}
    first, bad, unread, last = run(classifier.handler, good, {"inputs": 3}, b"\xff", good)
    assert [type(each).__name__ for each in (bad, unread)] == ["Refusal", "Refusal"]
    assert first == last
    assert_same(json.loads(first.body), [classifier.plain(good)[0]])  # type: ignore[union-attr]


def test_images_for_a_text_task_are_refused(classifier: Pair) -> None:
    result = refusal(classifier.handler, InferenceRequest(b"x", "image/png"))
    assert result.error == "UnsupportedContentType"


def test_token_classification(root: Path) -> None:
    for each in pair(root, artifacts.bert_ner, "token-classification"):
        each.check(
            [
                *({"inputs": text} for text in TEXTS),
                {"inputs": TEXTS},
                {"inputs": TEXTS[4], "parameters": {"aggregation_strategy": "simple"}},
                {"inputs": TEXTS, "parameters": {"aggregation_strategy": "max"}},
                {"inputs": TEXTS[4], "parameters": {"ignore_labels": []}},
                {
                    "inputs": " ".join(TEXTS * 4),
                    "parameters": {"stride": 8, "aggregation_strategy": "first"},
                },
            ]
        )
        assert refusal(
            each.handler, {"inputs": "x", "parameters": {"aggregation_strategy": "most"}}
        ).message.endswith("none, simple, first, average, max")


def test_fill_mask(root: Path) -> None:
    for each in pair(root, artifacts.bert_mlm, "fill-mask"):
        each.check(
            [
                {"inputs": "the [MASK] dog"},
                {"inputs": f"{LONG} [MASK]."},
                {"inputs": ["a [MASK]", "the [MASK] in the [MASK]"]},
                {"inputs": ["just [MASK]"]},
                {"inputs": "the [MASK] dog", "parameters": {"top_k": 2}},
                {"inputs": "the [MASK] dog", "parameters": {"targets": ["dog", "fox"]}},
            ]
        )
        result = refusal(each.handler, {"inputs": "no mask here"})
        assert (result.error, "[MASK]" in result.message) == ("InvalidRequest", True)


def test_feature_extraction(root: Path) -> None:
    for each in pair(root, artifacts.bert_encoder, "feature-extraction"):
        each.check([*({"inputs": text} for text in TEXTS), {"inputs": TEXTS}])
        same = [{"inputs": "the dog"}, {"inputs": "the fox"}]
        assert groups(each.handler, *same) == 1
        assert groups(each.handler, *same, {"inputs": "a lazy dog"}) == 2


def test_zero_shot_classification(root: Path) -> None:
    labels = ["politics", "a dog", "the weather in Berlin"]
    for each in pair(root, artifacts.bert_nli, "zero-shot-classification"):
        one = {"candidate_labels": labels}
        template = {"candidate_labels": "dog, cat", "hypothesis_template": "It is a {}."}
        each.check(
            [
                {"inputs": TEXTS[1], "parameters": one},
                {"inputs": TEXTS, "parameters": one | {"multi_label": True}},
                {"inputs": TEXTS[2], "parameters": template},
                {"inputs": TEXTS[2], "parameters": {"candidate_labels": ["one"]}},
            ]
        )
        result = refusal(each.handler, {"inputs": "x"})
        assert "candidate_labels" in result.message


# ---- questions ----


def best_span(handler: PipelineHandler, question: str, context: str) -> tuple[float, str]:
    """The answer by definition: the best over all pairs of tokens."""
    tokenizer, model = handler.pipeline.tokenizer, handler.model
    encoded = tokenizer(question, context, return_offsets_mapping=True, return_tensors="pt")
    offsets = encoded.pop("offset_mapping")[0].tolist()
    sides = encoded.sequence_ids(0)
    output = model(**encoded)
    allowed = torch.tensor([index == 0 or side == 1 for index, side in enumerate(sides)])
    start, end = (
        logits[0].double().masked_fill(~allowed, -1e4).softmax(-1)
        for logits in (output.start_logits, output.end_logits)
    )
    inside = [index for index, side in enumerate(sides) if side == 1]
    spans = [(a, b) for a in inside for b in inside if a <= b < a + 15]
    score, (first, last) = max((float(start[a] * end[b]), (a, b)) for a, b in spans)
    return score, context[offsets[first][0] : offsets[last][1]]


def test_question_answering(root: Path) -> None:
    path = artifacts.bert_qa(root / "bert_qa")
    questions = ["where do you live?", "who met Emmanuel Macron in Berlin?", "how?"]
    context = "I live in a little house near the river, with two cats"
    with loaded(path) as handler:
        documents = [{"inputs": {"question": each, "context": context}} for each in questions]
        for document, answer in zip(documents, answers(handler, *documents), strict=True):
            score, text = best_span(handler, **document["inputs"])
            assert answer["score"] == pytest.approx(score, abs=1e-5)
            assert answer["answer"] == context[answer["start"] : answer["end"]]
            assert text in answer["answer"]  # extended to whole words


def test_question_answering_input_formats(root: Path) -> None:
    path = artifacts.bert_qa(root / "bert_qa_forms")
    example = {"question": "where?", "context": "in a house near the river"}
    with loaded(path) as handler:
        single, bare, listed, two, many, top = answers(
            handler,
            {"inputs": example},
            example,
            {"inputs": [example]},
            {"inputs": [example, example]},
            {"inputs": {"question": ["where?", "who?"], "context": example["context"]}},
            {"inputs": example, "parameters": {"top_k": 3}},
        )
        assert single == bare == listed
        assert_same(two, [single, single])
        assert_same(many[0], single)
        assert len(many) == 2
        assert len(top) == 3
        assert_same(top[0], single)


def test_question_answering_reads_all_of_a_long_context(root: Path) -> None:
    """tokenizers before 0.23.3 make only two windows, whatever the length."""
    path = artifacts.bert_qa(root / "bert_qa_long")
    context = " ".join(TEXTS * 10)
    question = {"question": "who?", "context": context}
    document = {"inputs": question, "parameters": {"top_k": 200, "doc_stride": 16}}
    with loaded(path) as handler:
        windows = handler.preprocess(decode(request(document))).units
        tokens = len(handler.processors[0].tokenize(context))
        (found,) = answers(handler, document)
    assert handler.max_tokens is not None
    assert len(windows) * handler.max_tokens > tokens
    assert {each["answer"] == context[each["start"] : each["end"]] for each in found} == {True}
    assert min(each["start"] for each in found) < 300
    assert max(each["end"] for each in found) > len(context) - 300


@pytest.mark.parametrize(
    "document",
    [
        {"inputs": "where?"},
        {"inputs": {"question": "where?"}},
        {"inputs": {"question": "", "context": "x"}},
        {"inputs": {"question": "where?", "context": None}},
        {"inputs": {"question": ["a", "b"], "context": ["c"]}},
        {"inputs": {"question": "where?", "context": "here"}, "parameters": {"top_k": 0}},
    ],
)
def test_bad_questions_are_refused(root: Path, document: dict[str, Any]) -> None:
    path = root / "bert_qa_bad"
    if not path.exists():
        artifacts.bert_qa(path)
    with loaded(path) as handler:
        assert refusal(handler, document).error == "InvalidRequest"
