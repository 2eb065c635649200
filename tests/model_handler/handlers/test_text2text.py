"""Translation, summarization and text2text-generation answer as the pipelines of transformers 4 did."""

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers

from model_handler.handlers.pipeline import PipelineHandler
from model_handler.handlers.text2text import task_parameters
from tests import artifacts
from tests.model_handler.harness import answers, loaded, refusal, run

TEXTS = [
    "the house",
    "where do you live?",
    "shares of the company fell by twelve percent after the bank published its report",
    "the home team won the final in extra time",
]


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("artifacts")


@pytest.fixture(scope="module")
def translator(root: Path) -> Iterator[PipelineHandler]:
    with loaded(artifacts.marian(root / "marian")) as handler:
        yield handler


@pytest.fixture(scope="module")
def summariser(root: Path) -> Iterator[PipelineHandler]:
    with loaded(artifacts.bart(root / "bart")) as handler:
        yield handler


def alone(handler: PipelineHandler, text: str, **parameters: Any) -> list[str]:
    """The output of the model's `generate` for one text."""
    tokenizer = handler.pipeline.tokenizer
    encoded = tokenizer(text, truncation=True, return_tensors="pt")
    encoded.pop("token_type_ids", None)
    with torch.inference_mode():
        tokens = handler.model.generate(**encoded, **parameters)
    texts: list[str] = tokenizer.batch_decode(
        tokens, skip_special_tokens=True, clean_up_tokenization_spaces=False
    )
    return texts


def test_batched_translations_equal_single_ones(translator: PipelineHandler) -> None:
    assert translator.task == "translation"
    single = [alone(translator, text)[0] for text in TEXTS]
    assert len(set(single)) > 1
    batched = answers(translator, *({"inputs": text} for text in TEXTS), {"inputs": TEXTS})
    assert batched[:-1] == [[{"translation_text": text}] for text in single]
    assert batched[-1] == [{"translation_text": text} for text in single]


def test_parameters_go_to_generate(translator: PipelineHandler) -> None:
    for parameters in (
        {"num_beams": 1, "max_new_tokens": 5},
        {"num_beams": 3, "max_length": 9, "length_penalty": 2.0},
        {"no_repeat_ngram_size": 2, "num_beams": 1},
        {"min_length": 8, "max_length": 10},
    ):
        single = [alone(translator, text, **parameters)[0] for text in TEXTS]
        documents = [{"inputs": text, "parameters": parameters} for text in TEXTS]
        assert answers(translator, *documents) == [[{"translation_text": text}] for text in single]


def test_requests_with_different_parameters(translator: PipelineHandler) -> None:
    short = {"num_beams": 1, "max_new_tokens": 3}
    documents = [{"inputs": TEXTS[0]}, {"inputs": TEXTS[1], "parameters": short}]
    documents += [{"inputs": TEXTS[1]}, {"inputs": TEXTS[0], "parameters": short}]
    expected = [
        *(alone(translator, TEXTS[0]), alone(translator, TEXTS[1], **short)),
        *(alone(translator, TEXTS[1]), alone(translator, TEXTS[0], **short)),
    ]
    got = [answer[0]["translation_text"] for answer in answers(translator, *documents)]
    assert got == [text for (text,) in expected]


def test_several_answers_per_text(translator: PipelineHandler) -> None:
    parameters = {"num_beams": 3, "num_return_sequences": 2}
    first, both = answers(
        translator,
        {"inputs": TEXTS[0], "parameters": parameters},
        {"inputs": TEXTS[:2], "parameters": parameters},
    )
    single = [alone(translator, text, **parameters) for text in TEXTS[:2]]
    assert first == [{"translation_text": text} for text in single[0]]
    assert both == [[{"translation_text": text} for text in texts] for texts in single]


def test_returned_tokens_have_no_batch_padding(translator: PipelineHandler) -> None:
    documents = [{"inputs": text, "parameters": {"return_tensors": True}} for text in TEXTS]
    together = answers(translator, *documents)
    assert together == [answers(translator, document)[0] for document in documents]
    assert set(together[0][0]) == {"translation_token_ids"}


def test_inputs_are_truncated_to_what_the_encoder_takes(translator: PipelineHandler) -> None:
    text = "the old church " * 100
    (answer,) = answers(translator, {"inputs": text})
    assert answer == [{"translation_text": alone(translator, text)[0]}]


def test_summaries_follow_the_checkpoints_own_parameters(summariser: PipelineHandler) -> None:
    assert summariser.task == "summarization"
    own = {"length_penalty": 2.0, "max_length": 20, "min_length": 4, "num_beams": 2}
    single = [alone(summariser, text, **own)[0] for text in TEXTS]
    assert single != [alone(summariser, text)[0] for text in TEXTS]
    got = answers(summariser, {"inputs": TEXTS})
    assert got == [[{"summary_text": text} for text in single]]


def test_the_callers_parameters_override_the_checkpoints(summariser: PipelineHandler) -> None:
    parameters = {"max_length": 7, "min_length": 2, "num_beams": 1, "length_penalty": 1.0}
    (got,) = answers(summariser, {"inputs": TEXTS[0], "parameters": parameters})
    assert got == [{"summary_text": alone(summariser, TEXTS[0], **parameters)[0]}]


def test_text2text_with_and_without_a_prefix(root: Path) -> None:
    hints = {
        "summarization": {"prefix": "summarize: ", "max_length": 9},
        "translation_en_to_de": {"prefix": "translate: ", "max_length": 6},
    }
    path = artifacts.t5(root / "t5", task_specific_params=hints)
    lengths = {"text2text-generation": {"max_length": 16, "num_beams": 4}}
    lengths |= {"summarization": {"max_length": 9, "num_beams": 4}}
    lengths |= {"translation_en_to_de": {"max_length": 6, "num_beams": 4}}
    prefixes = {"text2text-generation": "", "summarization": "summarize: "}
    prefixes |= {"translation_en_to_de": "translate: ", "translation": "translate: "}
    lengths["translation"] = lengths["translation_en_to_de"]
    keys = {"text2text-generation": "generated_text", "summarization": "summary_text"}
    for task, prefix in prefixes.items():
        with loaded(path, task) as handler:
            (got,) = answers(handler, {"inputs": TEXTS[1]})
            expected = alone(handler, prefix + TEXTS[1], **lengths[task])
            assert got == [{keys.get(task, "translation_text"): expected[0]}], task


def test_languages_of_a_multilingual_model(root: Path) -> None:
    with loaded(artifacts.mbart(root / "mbart")) as handler:
        targets = ["de_DE", "fr_XX", "de_DE"]
        documents = [
            {"inputs": TEXTS[0], "parameters": {"src_lang": "en_XX", "tgt_lang": target}}
            for target in targets
        ]
        tokenizer = handler.pipeline.tokenizer
        expected = []
        for target in targets:
            tokenizer.src_lang = "en_XX"
            code = tokenizer.convert_tokens_to_ids(target)
            expected += alone(handler, TEXTS[0], forced_bos_token_id=code)
        got = [answer[0]["translation_text"] for answer in answers(handler, *documents)]
        assert got == expected
        assert got[0] != got[1]
        assert "tgt_lang" in refusal(handler, {"inputs": TEXTS[0]}).message
        unknown = {"inputs": TEXTS[0], "parameters": {"src_lang": "en_XX", "tgt_lang": "klingon"}}
        assert refusal(handler, unknown).error == "InvalidRequest"
    with loaded(root / "mbart", "translation_en_XX_to_fr_XX") as handler:
        (answer,) = answers(handler, {"inputs": TEXTS[0]})
        assert answer == [{"translation_text": got[1]}]


@pytest.mark.parametrize(
    ("task", "found"),
    [
        ("translation_en_to_de", {"prefix": "de: "}),
        ("translation_en_to_it", {}),
        ("translation", {}),
        ("summarization", {"max_length": 3}),
        ("text2text-generation", {}),
    ],
)
def test_task_specific_parameters_of_a_checkpoint(task: str, found: dict[str, Any]) -> None:
    hints = {
        "summarization": {"max_length": 3},
        "translation_en_to_de": {"prefix": "de: "},
        "translation_en_to_fr": {"prefix": "fr: "},
    }
    config = transformers.PreTrainedConfig(task_specific_params=hints)
    assert task_parameters(config, task) == found


@pytest.mark.parametrize(
    ("document", "complaint"),
    [
        ({"inputs": 3}, "number"),
        ({"inputs": {"text": "x"}}, "a text or a list"),
        ({"inputs": [["x"]]}, "a text or a list"),
        ({"inputs": []}, "empty"),
        ({"inputs": "x", "parameters": {"max_length": "long"}}, "max_length"),
        ({"inputs": "x", "parameters": {"max_new_tokens": 10_000}}, "at most 64"),
        (
            {"inputs": "x", "parameters": {"decoder_start_token_id": 10**6}},
            "decoder_start_token_id",
        ),
        ({"inputs": "x", "parameters": {"prefix_allowed_tokens_fn": "x"}}, "takes no"),
        ({"inputs": "x", "parameters": {"num_beams": 2, "num_return_sequences": 3}}, "num_beams"),
    ],
)
def test_bad_requests_are_refused(
    translator: PipelineHandler, document: Any, complaint: str
) -> None:
    result = refusal(translator, document)
    assert result.error == "InvalidRequest"
    assert complaint in result.message


def test_one_bad_parameter_does_not_affect_its_batch(translator: PipelineHandler) -> None:
    bad = {"inputs": TEXTS[0], "parameters": {"num_beams": 2, "num_return_sequences": 3}}
    first, refused, last = run(translator, {"inputs": TEXTS[0]}, bad, {"inputs": TEXTS[0]})
    assert first == last
    assert type(refused).__name__ == "Refusal"


def test_the_deadline_ends_a_translation(translator: PipelineHandler) -> None:
    assert refusal(translator, {"inputs": TEXTS[0]}, timeout_s=0.001).error == "DeadlineExceeded"


def test_a_read_only_artifact_loads(root: Path, translator: PipelineHandler) -> None:
    path = root / "read_only"
    shutil.copytree(root / "marian", path)
    before = sorted(file.name for file in path.iterdir())
    path.chmod(0o555)
    with loaded(path) as handler:
        assert answers(handler, {"inputs": TEXTS[0]}) == answers(translator, {"inputs": TEXTS[0]})
    path.chmod(0o755)
    assert sorted(file.name for file in path.iterdir()) == before
