"""Tiny real artifacts, each written in less than a second: config, safetensors, a new tokenizer.

Weights are random with a fixed seed: answers are meaningless, but the same on every machine and in every run.
"""

import json
import string
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from tokenizers import (
    Tokenizer,
    decoders,
    models,
    normalizers,
    pre_tokenizers,
    processors,
    trainers,
)
from transformers.models.mbart.tokenization_mbart import FAIRSEQ_LANGUAGE_CODES

CORPUS = (
    "the quick brown fox jumps over the lazy dog while seven wizards juggle boxes of quartz",
    "this film was a wonderful surprise, and I would happily watch it again tomorrow",
    "the service was slow and the soup was cold; we will never come back to this place",
    "Angela Merkel met Emmanuel Macron in Berlin on Monday to talk about the European budget",
    "shares of the company fell by twelve percent after the bank published its quarterly report",
    "the home team won the final in extra time and thousands of people sang in the streets",
    "scientists have found water under the surface of a small moon that circles Saturn",
    "where do you live? I live in a little house near the river, with two cats and a garden",
    "das Haus ist klein und der Garten ist grün, aber wir wohnen gern in dieser Stadt",
    "wo ist der Bahnhof? er ist dort drüben, neben der alten Kirche und dem neuen Markt",
    "an apple a day keeps the doctor away, or so my grandmother used to say every morning",
    "contact us at 0123 456 789 between 9 and 5, or write a letter to our main office!",
)
HIDDEN = 32
POSITIONS = 64


def bert_classifier(
    directory: Path,
    *,
    labels: Sequence[str] = ("NEGATIVE", "POSITIVE"),
    seed: int = 0,
    hidden_size: int = HIDDEN,
    layers: int = 2,
    **config: Any,
) -> Path:
    """text-classification."""
    shape = _bert_shape(hidden_size=hidden_size, num_hidden_layers=layers, **config)
    shape |= _label_maps(labels)
    return _bert(directory, transformers.BertForSequenceClassification, shape, seed)


def bert_nli(directory: Path, *, seed: int = 0) -> Path:
    """zero-shot-classification if the task is set; its architecture implies text-classification."""
    return bert_classifier(directory, labels=("contradiction", "neutral", "entailment"), seed=seed)


def bert_ner(directory: Path, *, seed: int = 0, **config: Any) -> Path:
    """token-classification."""
    labels = ("O", "B-PER", "I-PER", "B-LOC", "I-LOC")
    shape = _bert_shape(**config) | _label_maps(labels)
    return _bert(directory, transformers.BertForTokenClassification, shape, seed)


def bert_qa(directory: Path, *, seed: int = 0, **config: Any) -> Path:
    """question-answering."""
    return _bert(directory, transformers.BertForQuestionAnswering, _bert_shape(**config), seed)


def bert_mlm(directory: Path, *, seed: int = 0) -> Path:
    """fill-mask."""
    return _bert(directory, transformers.BertForMaskedLM, _bert_shape(), seed)


def bert_encoder(directory: Path, *, seed: int = 0, **config: Any) -> Path:
    """feature-extraction."""
    return _bert(directory, transformers.BertModel, _bert_shape(**config), seed)


def gpt2(directory: Path, *, seed: int = 0, positions: int = POSITIONS) -> Path:
    """text-generation; byte-level BPE without a padding token, as the real one."""
    tokenizer = _byte_level(special=("<|endoftext|>",), post=None)
    config = transformers.GPT2Config(
        vocab_size=tokenizer.get_vocab_size(),
        n_positions=positions,
        n_embd=HIDDEN,
        n_layer=2,
        n_head=4,
        bos_token_id=0,
        eos_token_id=0,
    )
    _model(directory, transformers.GPT2LMHeadModel, config, seed)
    names = {"bos_token": "<|endoftext|>", "eos_token": "<|endoftext|>"}
    return _tokenizer(directory, tokenizer, positions, **names)


def marian(directory: Path, *, seed: int = 0) -> Path:
    """translation. Real Marian vocabularies are SentencePiece; this one is byte-level."""
    tokenizer = _byte_level(special=("</s>", "<unk>", "<pad>"), post="$A </s>:0")
    config = transformers.MarianConfig(
        vocab_size=tokenizer.get_vocab_size(),
        **_seq2seq_shape(eos=0, pad=2, start=2),
    )
    generation = {
        "max_length": 24,
        "num_beams": 2,
        "bad_words_ids": [[2]],
        "forced_eos_token_id": 0,
    }
    _model(directory, transformers.MarianMTModel, config, seed, generation)
    names = {"eos_token": "</s>", "unk_token": "<unk>", "pad_token": "<pad>"}
    return _tokenizer(directory, tokenizer, POSITIONS, **names)


def bart(
    directory: Path, *, seed: int = 0, task_specific_params: dict[str, Any] | None = None
) -> Path:
    """summarization by task_specific_params, like bart-large-cnn; text2text-generation with {}."""
    if task_specific_params is None:
        lengths = {"length_penalty": 2.0, "max_length": 20, "min_length": 4, "num_beams": 2}
        task_specific_params = {"summarization": lengths}
    special = ("<s>", "<pad>", "</s>", "<unk>", "<mask>")
    tokenizer = _byte_level(special=special, post="<s>:0 $A:0 </s>:0")
    config = transformers.BartConfig(
        vocab_size=tokenizer.get_vocab_size(),
        task_specific_params=task_specific_params,
        **_seq2seq_shape(eos=2, pad=1, start=2),
    )
    generation = {"max_length": 16, "num_beams": 1, "forced_eos_token_id": 2}
    _model(directory, transformers.BartForConditionalGeneration, config, seed, generation)
    names = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>", "pad_token": "<pad>"}
    return _tokenizer(directory, tokenizer, POSITIONS, **names)


def mbart(directory: Path, *, seed: int = 0) -> Path:
    """translation between many languages, named by codes such as en_XX and de_DE."""
    special = [(piece, 0.0) for piece in ("<s>", "<pad>", "</s>", "<unk>", "▁")]
    letters = [(letter, -2.0) for letter in sorted(set("".join(CORPUS)) - {" "})]
    codes = [(code, 0.0) for code in FAIRSEQ_LANGUAGE_CODES]
    vocabulary = [*special, *letters, *codes, ("<mask>", 0.0)]
    tokenizer = transformers.MBartTokenizer(vocabulary, model_max_length=POSITIONS)
    config = transformers.MBartConfig(
        vocab_size=len(tokenizer), **_seq2seq_shape(eos=2, pad=1, start=2)
    )
    generation = {"max_length": 16, "num_beams": 2, "forced_eos_token_id": 2}
    _model(directory, transformers.MBartForConditionalGeneration, config, seed, generation)
    tokenizer.save_pretrained(directory)
    return directory


def t5(
    directory: Path, *, seed: int = 0, task_specific_params: dict[str, Any] | None = None
) -> Path:
    """text2text-generation; with task_specific_params, the prefixes of the real T5."""
    tokenizer = _byte_level(special=("<pad>", "</s>", "<unk>"), post="$A </s>:0")
    config = transformers.T5Config(
        vocab_size=tokenizer.get_vocab_size(),
        d_model=HIDDEN,
        d_kv=8,
        d_ff=64,
        num_layers=2,
        num_heads=4,
        task_specific_params=task_specific_params,
        decoder_start_token_id=0,
    )
    _model(directory, transformers.T5ForConditionalGeneration, config, seed, {"max_length": 16})
    names = {"eos_token": "</s>", "unk_token": "<unk>", "pad_token": "<pad>"}
    return _tokenizer(directory, tokenizer, POSITIONS, **names)


def vit(directory: Path, *, labels: Sequence[str] = ("cat", "dog", "fox"), seed: int = 0) -> Path:
    """image-classification, 30 × 30 pixels."""
    config = transformers.ViTConfig(
        hidden_size=HIDDEN,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=64,
        image_size=30,
        patch_size=10,
        **_label_maps(labels),
    )
    _model(directory, transformers.ViTForImageClassification, config, seed)
    processor: dict[str, Any] = {
        "image_processor_type": "ViTImageProcessor",
        "size": {"height": 30, "width": 30},
    }
    processor |= {"do_normalize": True, "do_rescale": True, "do_resize": True, "resample": 2}
    processor |= {"image_mean": [0.5] * 3, "image_std": [0.5] * 3, "rescale_factor": 1 / 255}
    _json(directory / "preprocessor_config.json", processor)
    return directory


def wav2vec2(directory: Path, *, seed: int = 0) -> Path:
    """automatic-speech-recognition by CTC: letters, one character each, 16 kHz."""
    letters = ["<pad>", "<s>", "</s>", "<unk>", "|", *"abcdefghijklmnopqrstuvwxyz'"]
    config = transformers.Wav2Vec2Config(
        vocab_size=len(letters),
        hidden_size=HIDDEN,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=64,
        conv_dim=(16, 16, 16),
        conv_stride=(10, 8, 4),
        conv_kernel=(20, 8, 4),
        num_conv_pos_embeddings=16,
        num_conv_pos_embedding_groups=4,
        num_feat_extract_layers=3,
        pad_token_id=0,
    )
    _model(directory, transformers.Wav2Vec2ForCTC, config, seed)
    vocabulary = {letter: index for index, letter in enumerate(letters)}
    _json(directory / "vocab.json", vocabulary)
    names = {"tokenizer_class": "Wav2Vec2CTCTokenizer", "word_delimiter_token": "|"}
    names |= {"pad_token": "<pad>", "unk_token": "<unk>", "bos_token": "<s>", "eos_token": "</s>"}
    _json(directory / "tokenizer_config.json", names)
    extractor = {"feature_extractor_type": "Wav2Vec2FeatureExtractor", "sampling_rate": 16000}
    extractor |= {"feature_size": 1, "padding_value": 0.0, "do_normalize": True}
    _json(directory / "preprocessor_config.json", extractor | {"return_attention_mask": False})
    return directory


def wave(seconds: float, *, rate: int = 16000, seed: int = 0) -> np.ndarray:
    """Mono float32 noise over a tone."""
    time = np.arange(int(seconds * rate)) / rate
    noise = np.random.default_rng(seed).normal(scale=0.1, size=time.size)
    return (np.sin(440 * 2 * np.pi * time) * 0.5 + noise).astype(np.float32)


# ---- what the builders share ----


def _bert_shape(**overrides: Any) -> dict[str, Any]:
    shape = {
        "hidden_size": HIDDEN,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "intermediate_size": 64,
        "max_position_embeddings": POSITIONS,
    }
    return shape | overrides


def _seq2seq_shape(*, eos: int, pad: int, start: int) -> dict[str, Any]:
    sides = {"layers": 2, "attention_heads": 4, "ffn_dim": 64}
    shape = {
        f"{side}_{key}": value for side in ("encoder", "decoder") for key, value in sides.items()
    }
    tokens = {"eos_token_id": eos, "pad_token_id": pad, "decoder_start_token_id": start}
    return shape | tokens | {"d_model": HIDDEN, "max_position_embeddings": POSITIONS}


def _label_maps(labels: Sequence[str]) -> dict[str, Any]:
    names = dict(enumerate(labels))
    return {"id2label": names, "label2id": {name: index for index, name in names.items()}}


def _bert(directory: Path, kind: type[Any], shape: dict[str, Any], seed: int) -> Path:
    tokenizer = _word_piece()
    config = transformers.BertConfig(vocab_size=tokenizer.get_vocab_size(), **shape)
    _model(directory, kind, config, seed)
    names = {"unk_token": "[UNK]", "pad_token": "[PAD]", "cls_token": "[CLS]"}
    names |= {"sep_token": "[SEP]", "mask_token": "[MASK]"}
    positions = shape["max_position_embeddings"]
    return _tokenizer(directory, tokenizer, positions, **names)


def _word_piece() -> Tokenizer:
    """A fixed vocabulary of letters and words, because training one is not deterministic."""
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    words = pre_tokenizers.BertPreTokenizer().pre_tokenize_str(" ".join(CORPUS))
    whole = sorted({word for word, _ in words})
    letters = sorted({letter for word in whole for letter in word} | set(string.ascii_letters))
    pieces = dict.fromkeys([*special, *letters, *(f"##{letter}" for letter in letters), *whole])
    vocabulary = {piece: index for index, piece in enumerate(pieces)}
    tokenizer = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=False)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece()
    ends = [(name, vocabulary[name]) for name in ("[CLS]", "[SEP]")]
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1", special_tokens=ends
    )
    return tokenizer


def _byte_level(*, special: Sequence[str], post: str | None) -> Tokenizer:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=400,
        special_tokens=list(special),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(CORPUS, trainer)
    if post is not None:
        named = [(name, tokenizer.token_to_id(name)) for name in special if name in post]
        tokenizer.post_processor = processors.TemplateProcessing(single=post, special_tokens=named)
    return tokenizer


def _model(
    directory: Path,
    kind: type[Any],
    config: Any,
    seed: int,
    generation: dict[str, Any] | None = None,
) -> None:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = kind(config)
        _spread(model)
    for key, value in (generation or {}).items():
        setattr(model.generation_config, key, value)
    model.save_pretrained(directory)


def _spread(model: Any) -> None:
    """Give weights a wider distribution than the initialiser's, so that scores differ clearly."""
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.ndim > 1 and "norm" not in name.lower():
                parameter.normal_(std=0.25)


def _tokenizer(directory: Path, tokenizer: Tokenizer, positions: int, **names: str) -> Path:
    fast = transformers.PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, model_max_length=positions, **names
    )
    fast.save_pretrained(directory)
    return directory


def _json(path: Path, document: dict[str, Any]) -> None:
    path.write_text(json.dumps(document, indent=2))
