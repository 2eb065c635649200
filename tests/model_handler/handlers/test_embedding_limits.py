"""Indices out of a model's range are refused before the forward."""

from pathlib import Path
from typing import Any

import pytest
import torch
import transformers

from model_handler.codecs.toolkit import decode
from model_handler.errors import InferenceFailed, InvalidRequest
from model_handler.handlers.embedding_limits import EmbeddingLimits, positions
from model_handler.handlers.pipeline import PipelineHandler
from tests import artifacts
from tests.model_handler.harness import answers, loaded, refusal, request
from tests.model_handler.tensors_alive import edit

PAIR = {"inputs": {"text": "the fox", "text_pair": "the dog"}}


def test_unknown_token_types_are_refused(tmp_path: Path) -> None:
    path = artifacts.bert_classifier(tmp_path, type_vocab_size=1)
    names = ["input_ids", "token_type_ids", "attention_mask"]
    edit(path / "tokenizer_config.json", model_input_names=names)
    with loaded(path) as handler:
        with pytest.raises(InferenceFailed, match="kinds of tokens"):
            handler.preprocess(decode(request(PAIR)))
        assert refusal(handler, PAIR).error == "InferenceFailed"
        answers(handler, {"inputs": "the fox"})


def test_known_token_types_are_accepted(tmp_path: Path) -> None:
    with loaded(artifacts.bert_classifier(tmp_path)) as handler:
        answers(handler, PAIR)


def tiny(kind: str, **fields: Any) -> Any:
    config = transformers.AutoConfig.for_model(
        kind,
        vocab_size=90,
        hidden_size=32,
        num_hidden_layers=1,
        num_attention_heads=4,
        intermediate_size=32,
        **fields,
    )
    return transformers.AutoModel.from_config(config)


@pytest.mark.parametrize(
    "box", [[0, 0, 1001, 5], [0, 0, 5, 10**6], [-1, 0, 5, 5], [9, 0, 5, 5], [0, 9, 5, 5]]
)
def test_boxes_outside_the_page_are_refused(box: list[int]) -> None:
    limits = EmbeddingLimits.of(tiny("layoutlm", max_2d_position_embeddings=1001), 64)
    limits.check({"bbox": torch.tensor([[[0, 0, 0, 0], [1, 2, 3, 4], [1000] * 4]])})
    with pytest.raises(InvalidRequest, match="word_boxes"):
        limits.check({"bbox": torch.tensor([[[1, 2, 3, 4], box]])})


def test_tables_with_too_many_columns_or_rows_are_refused() -> None:
    limits = EmbeddingLimits.of(tiny("tapas", type_vocab_sizes=[3, 256, 256, 2, 256, 256, 10]), 64)
    types = torch.zeros(1, 4, 7, dtype=torch.long)
    types[0, 3, 1] = 255
    limits.check({"token_type_ids": types})
    types[0, 3, 2] = 256
    with pytest.raises(InferenceFailed, match="kinds of tokens"):
        limits.check({"token_type_ids": types})


def test_texts_of_multimodal_models_are_checked_too() -> None:
    shape = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 4}
    config = transformers.CLIPConfig(
        text_config=shape | {"vocab_size": 90, "max_position_embeddings": 7},
        vision_config=shape | {"image_size": 30, "patch_size": 10},
    )
    limits = EmbeddingLimits.of(transformers.CLIPModel(config), None)
    limits.check({"text_inputs": [{"input_ids": torch.full((2, 7), 89)}]})
    with pytest.raises(InvalidRequest, match="8 tokens, the model takes at most 7"):
        limits.check({"text_inputs": [{"input_ids": torch.zeros(2, 8, dtype=torch.long)}]})
    with pytest.raises(InferenceFailed, match="does not"):
        limits.check({"text_inputs": [{"input_ids": torch.full((2, 7), 90)}]})


def test_position_tables_of_separate_encoder_and_decoder(tmp_path: Path) -> None:
    """The outer configuration has no number of positions."""
    shape = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 4}
    shape |= {"intermediate_size": 32, "vocab_size": 90}
    config = transformers.EncoderDecoderConfig(
        encoder=transformers.BertConfig(**shape, max_position_embeddings=20).to_dict(),
        decoder=transformers.BertConfig(**shape, max_position_embeddings=12).to_dict(),
    )
    model = transformers.EncoderDecoderModel(config)
    limits = EmbeddingLimits.of(model, None)
    limits.check({"input_ids": torch.zeros(1, 20, dtype=torch.long)})
    with pytest.raises(InvalidRequest, match="at most 20"):
        limits.check({"input_ids": torch.zeros(1, 21, dtype=torch.long)})
    assert positions(model.config) == 12


def test_tokens_cannot_be_named_without_a_known_vocabulary(tmp_path: Path) -> None:
    with loaded(artifacts.wav2vec2(tmp_path)) as handler:
        assert isinstance(handler, PipelineHandler)
        sound = {"raw": artifacts.wave(0.2).tolist(), "sampling_rate": 16000}
        document = {"inputs": sound, "parameters": {"generate_kwargs": {"eos_token_id": 3}}}
        assert "not known" in refusal(handler, document).message
