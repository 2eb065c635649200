"""python -m benchmarks.full_models DIR NAME…

Writes DIR/NAME/model for each name: full-size models with random float32 weights. Existing models are kept.
`tiny-000`, `tiny-001`, … are two-layer BERTs; the others are listed in MODELS.
"""

import inspect
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import transformers

from benchmarks.tiny_models import INPUTS, VOCABULARY, save_tokenizer

Build = Callable[[], Any]
GENERATED_TOKENS = 16
SPREAD = 0.06  # wider than what models start from: answers must not be near ties


def main() -> None:
    root = Path(sys.argv[1])
    torch.set_num_threads(1)
    for seed, name in enumerate(sys.argv[2:]):
        directory = root / name / "model"
        if not (directory / "tokenizer_config.json").exists():
            _write(directory, name, seed)


def _write(directory: Path, name: str, seed: int) -> None:
    torch.manual_seed(seed)
    build, vocabulary = MODELS["tiny" if name.startswith("tiny") else name]
    model = build()
    with torch.no_grad():
        for key, parameter in model.named_parameters():
            if parameter.ndim > 1 and "norm" not in key.lower():
                parameter.normal_(std=SPREAD)
    model.save_pretrained(directory)
    inputs = tuple(name for name in INPUTS if name in inspect.signature(model.forward).parameters)
    save_tokenizer(directory, vocabulary, inputs)


def _tiny() -> Any:
    shape = {"hidden_size": 128, "num_hidden_layers": 2, "num_attention_heads": 2}
    config = transformers.BertConfig(vocab_size=VOCABULARY, intermediate_size=512, **shape)
    return transformers.BertForSequenceClassification(config)


def _distilbert() -> Any:
    config = transformers.DistilBertConfig(vocab_size=VOCABULARY)
    return transformers.DistilBertForSequenceClassification(config)


def _topics() -> Any:
    config = transformers.BertConfig(vocab_size=VOCABULARY, num_labels=4)
    return transformers.BertForSequenceClassification(config)


def _ner() -> Any:
    config = transformers.BertConfig(vocab_size=VOCABULARY, num_labels=9)
    return transformers.BertForTokenClassification(config)


_TOKENS = {"pad_token_id": 0, "bos_token_id": 2, "eos_token_id": 3}
_SIDES = ("encoder", "decoder")


def _marian() -> Any:
    config = transformers.MarianConfig(
        vocab_size=58101,
        decoder_vocab_size=58101,
        d_model=512,
        max_position_embeddings=512,
        scale_embedding=True,
        activation_function="swish",
        decoder_start_token_id=0,
        **_seq2seq(layers=6, heads=8, wide=2048),
    )
    return _generating(transformers.MarianMTModel(config))


def _bart_large() -> Any:
    config = transformers.BartConfig(
        vocab_size=50264, decoder_start_token_id=3, **_seq2seq(layers=12, heads=16, wide=4096)
    )
    return _generating(transformers.BartForConditionalGeneration(config))


def _seq2seq(*, layers: int, heads: int, wide: int) -> dict[str, int]:
    sides = {"layers": layers, "attention_heads": heads, "ffn_dim": wide}
    return _TOKENS | {f"{side}_{key}": value for side in _SIDES for key, value in sides.items()}


def _generating(model: Any) -> Any:
    """Four beams and a fixed number of tokens, since a model with random weights does not end a sentence."""
    limits = {"max_new_tokens": GENERATED_TOKENS, "min_new_tokens": GENERATED_TOKENS}
    start = {"decoder_start_token_id": model.config.decoder_start_token_id}
    model.generation_config = transformers.GenerationConfig(
        num_beams=4, **limits, **start, **_TOKENS
    )
    return model


MODELS: dict[str, tuple[Build, int]] = {
    "tiny": (_tiny, VOCABULARY),
    "distilbert": (_distilbert, VOCABULARY),
    "topics": (_topics, VOCABULARY),
    "ner": (_ner, VOCABULARY),
    "marian": (_marian, 58101),
    "bart-large": (_bart_large, 50264),
}


if __name__ == "__main__":
    main()
