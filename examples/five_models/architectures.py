"""The five architectures: those of well-known models, with fewer and narrower layers.

A model is created untrained, for a tokenizer; its config has tokens, labels and generation limits.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from transformers import (
    BartConfig,
    BartForConditionalGeneration,
    BertConfig,
    BertForSequenceClassification,
    BertForTokenClassification,
    DistilBertConfig,
    DistilBertForSequenceClassification,
    GenerationConfig,
    MarianConfig,
    MarianMTModel,
    PreTrainedModel,
    PreTrainedTokenizerFast,
)


def _labels(names: list[str]) -> dict[str, Any]:
    return {
        "id2label": dict(enumerate(names)),
        "label2id": {name: index for index, name in enumerate(names)},
    }


def distilbert_classifier(tokenizer: PreTrainedTokenizerFast, labels: list[str]) -> PreTrainedModel:
    config = DistilBertConfig(
        vocab_size=len(tokenizer),
        max_position_embeddings=tokenizer.model_max_length,
        dim=96,
        hidden_dim=192,
        n_layers=2,
        n_heads=4,
        pad_token_id=tokenizer.pad_token_id,
        **_labels(labels),
    )
    return DistilBertForSequenceClassification(config)


def bert_classifier(tokenizer: PreTrainedTokenizerFast, labels: list[str]) -> PreTrainedModel:
    return BertForSequenceClassification(_bert_config(tokenizer, labels, hidden_size=96))


def bert_tagger(tokenizer: PreTrainedTokenizerFast, labels: list[str]) -> PreTrainedModel:
    return BertForTokenClassification(_bert_config(tokenizer, labels, hidden_size=128))


def _bert_config(
    tokenizer: PreTrainedTokenizerFast, labels: list[str], hidden_size: int
) -> BertConfig:
    return BertConfig(
        vocab_size=len(tokenizer),
        max_position_embeddings=tokenizer.model_max_length,
        hidden_size=hidden_size,
        intermediate_size=2 * hidden_size,
        num_hidden_layers=2,
        num_attention_heads=4,
        pad_token_id=tokenizer.pad_token_id,
        **_labels(labels),
    )


_SEQ2SEQ: dict[str, Any] = {
    "d_model": 128,
    "encoder_layers": 2,
    "decoder_layers": 2,
    "encoder_attention_heads": 4,
    "decoder_attention_heads": 4,
    "encoder_ffn_dim": 384,
    "decoder_ffn_dim": 384,
    "dropout": 0.0,
    "is_encoder_decoder": True,
}


def marian(tokenizer: PreTrainedTokenizerFast) -> PreTrainedModel:
    tokens = {
        "pad_token_id": tokenizer.pad_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "decoder_start_token_id": tokenizer.pad_token_id,
        "forced_eos_token_id": tokenizer.eos_token_id,
    }
    config = MarianConfig(
        vocab_size=len(tokenizer),
        decoder_vocab_size=len(tokenizer),
        max_position_embeddings=tokenizer.model_max_length,
        activation_function="swish",
        scale_embedding=True,
        **tokens,
        **_SEQ2SEQ,
    )
    model = MarianMTModel(config)
    model.generation_config = GenerationConfig(
        max_length=tokenizer.model_max_length,
        num_beams=4,
        bad_words_ids=[[tokenizer.pad_token_id]],
        **tokens,
    )
    return model


def bart(tokenizer: PreTrainedTokenizerFast) -> PreTrainedModel:
    tokens = {
        "bos_token_id": tokenizer.bos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "decoder_start_token_id": tokenizer.eos_token_id,
        "forced_bos_token_id": tokenizer.bos_token_id,
        "forced_eos_token_id": tokenizer.eos_token_id,
    }
    limits = {"max_length": 64, "min_length": 6, "num_beams": 4, "length_penalty": 1.0}
    config = BartConfig(
        vocab_size=len(tokenizer),
        max_position_embeddings=tokenizer.model_max_length,
        activation_function="gelu",
        task_specific_params={"summarization": {**limits, "early_stopping": True}},
        **tokens,
        **_SEQ2SEQ,
    )
    model = BartForConditionalGeneration(config)
    for half in (model.model.encoder, model.model.decoder):
        _start_as_waves(half.embed_positions.weight, config.init_std)
    model.generation_config = GenerationConfig(early_stopping=True, **limits, **tokens)
    return model


def _start_as_waves(positions: Tensor, scale: float) -> None:
    """Initialise the learned positions with sinusoids, so that the model learns to copy sooner."""
    count, width = positions.shape
    frequency = 10_000 ** (-torch.arange(0, width, 2) / width)
    angle = torch.arange(count).unsqueeze(1) * frequency
    with torch.no_grad():
        positions.copy_(torch.cat([angle.sin(), angle.cos()], dim=1) * scale * 2**0.5)
