"""Task names, and the task that a config.json implies."""

import subprocess
import sys
from typing import Any

import pytest

from model_handler.artifacts.tasks import (
    SUPPORTED,
    InputKind,
    family,
    infer,
    input_kind,
    languages,
    normalise,
)
from model_handler.errors import ModelLoadFailed


@pytest.mark.parametrize(
    ("architecture", "task"),
    [
        ("DistilBertForSequenceClassification", "text-classification"),
        ("BertForTokenClassification", "token-classification"),
        ("RobertaForMaskedLM", "fill-mask"),
        ("BertForQuestionAnswering", "question-answering"),
        ("TapasForQuestionAnswering", "table-question-answering"),
        ("LayoutLMForQuestionAnswering", "document-question-answering"),
        ("GPT2LMHeadModel", "text-generation"),
        ("LlamaForCausalLM", "text-generation"),
        ("XLMWithLMHeadModel", "fill-mask"),
        ("MarianMTModel", "translation"),
        ("FSMTForConditionalGeneration", "translation"),
        ("MBartForConditionalGeneration", "translation"),
        ("M2M100ForConditionalGeneration", "translation"),
        ("PegasusForConditionalGeneration", "summarization"),
        ("BartForConditionalGeneration", "text2text-generation"),
        ("T5ForConditionalGeneration", "text2text-generation"),
        ("T5WithLMHeadModel", "text2text-generation"),
        ("WhisperForConditionalGeneration", "automatic-speech-recognition"),
        ("Wav2Vec2ForCTC", "automatic-speech-recognition"),
        ("Wav2Vec2ForSequenceClassification", "audio-classification"),
        ("ViTForImageClassification", "image-classification"),
        ("ViTModel", "image-feature-extraction"),
        ("DetrForObjectDetection", "object-detection"),
        ("OwlViTForObjectDetection", "zero-shot-object-detection"),
        ("CLIPModel", "zero-shot-image-classification"),
        ("VitsModel", "text-to-audio"),
        ("BertModel", "feature-extraction"),
        ("DistilBertModel", "feature-extraction"),
    ],
)
def test_task_from_architecture(architecture: str, task: str) -> None:
    assert infer({"architectures": [architecture]}) == task


@pytest.mark.parametrize(
    ("hints", "task"),
    [
        ({"summarization": {"max_length": 142}}, "summarization"),
        ({"translation_en_to_de": {"prefix": "…"}}, "translation"),
        ({"translation_en_to_de": {}, "translation_en_to_fr": {}}, "translation"),
        ({"summarization": {}, "translation_en_to_de": {}}, "text2text-generation"),
        ({}, "text2text-generation"),
        (None, "text2text-generation"),
    ],
)
def test_task_specific_params_decide_for_seq2seq_models(hints: Any, task: str) -> None:
    config = {"architectures": ["BartForConditionalGeneration"], "task_specific_params": hints}
    assert infer(config) == task


def test_an_nli_classifier_is_text_classification() -> None:
    labels = {"0": "contradiction", "1": "neutral", "2": "entailment"}
    config = {"architectures": ["BartForSequenceClassification"], "id2label": labels}
    assert infer(config) == "text-classification"


@pytest.mark.parametrize(
    "config",
    [
        {},
        {"architectures": []},
        {"architectures": None},
        {"architectures": "BertModel"},
        {"architectures": [3]},
        {"architectures": ["SomethingElse"]},
        {"architectures": ["BertForMultipleChoice"]},
        {"architectures": ["LlavaForConditionalGeneration"]},
        {"architectures": ["VisionEncoderDecoderModel"]},
    ],
)
def test_config_without_a_known_architecture_is_rejected(config: dict[str, Any]) -> None:
    with pytest.raises(ModelLoadFailed) as caught:
        infer(config)
    assert all(task in str(caught.value) for task in SUPPORTED)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("given", "task"),
    [
        ("sentiment-analysis", "text-classification"),
        ("ner", "token-classification"),
        ("NER", "token-classification"),
        (" summarization ", "summarization"),
        ("text-to-speech", "text-to-audio"),
        ("translation_en_to_de", "translation_en_to_de"),
        ("translation_zh_CN_to_en_XX", "translation_zh_CN_to_en_XX"),
        *((task, task) for task in SUPPORTED),
    ],
)
def test_normalise_accepts_aliases_and_canonical_names(given: str, task: str) -> None:
    assert normalise(given) == task
    assert normalise(task) == task
    assert isinstance(input_kind(task), InputKind)


@pytest.mark.parametrize(
    ("wrong", "nearest"),
    [("text-clasification", "text-classification"), ("translate", "translation"), ("xyz", None)],
)
def test_unknown_task_suggests_the_nearest_name(wrong: str, nearest: str | None) -> None:
    with pytest.raises(ModelLoadFailed) as caught:
        normalise(wrong)
    assert (f"did you mean '{nearest}'" in str(caught.value)) == (nearest is not None)
    assert "summarization" in str(caught.value)


@pytest.mark.parametrize("task", ["", "translation_", "translation_en", "translation__to_"])
def test_normalise_rejects_incomplete_translation_tasks(task: str) -> None:
    with pytest.raises(ModelLoadFailed):
        normalise(task)


def test_languages_of_translation_tasks() -> None:
    assert languages("translation_en_to_de") == ("en", "de")
    assert languages("translation") is None
    assert family("translation_en_to_de") == "translation"


def test_tasks_module_does_not_import_torch() -> None:
    code = "import sys, model_handler.artifacts.tasks; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
