"""Subword vocabularies learned from generated text, as fast tokenizers.

The tokenizers do not need sentencepiece: all data is in `tokenizer.json`.
"""

from __future__ import annotations

from collections.abc import Iterable

from tokenizers import (
    Tokenizer,
    decoders,
    models,
    normalizers,
    pre_tokenizers,
    processors,
    trainers,
)
from transformers import PreTrainedTokenizerFast


def wordpiece(
    texts: Iterable[str], size: int, max_length: int, lowercase: bool
) -> PreTrainedTokenizerFast:
    """A WordPiece tokenizer with BERT's special tokens: `[CLS] text [SEP]`."""
    tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=lowercase)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece()
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    alphabet = [chr(code) for code in range(33, 127)]
    trainer = trainers.WordPieceTrainer(
        vocab_size=size, special_tokens=special, initial_alphabet=alphabet, show_progress=False
    )
    tokenizer.train_from_iterator(texts, trainer)
    roles = ("pad_token", "unk_token", "cls_token", "sep_token", "mask_token")
    template = "[CLS] $A [SEP]", "[CLS] $A [SEP] $B:1 [SEP]:1"
    return _framed(tokenizer, template, max_length, **dict(zip(roles, special, strict=True)))


def marian_bpe(texts: Iterable[str], size: int, max_length: int) -> PreTrainedTokenizerFast:
    """A BPE tokenizer with Marian's special token: `text </s>`. Both languages share one vocabulary."""
    tokenizer = _byte_level_bpe(texts, size, ["</s>", "<unk>", "<pad>"])
    roles = {"eos_token": "</s>", "unk_token": "<unk>", "pad_token": "<pad>"}
    return _framed(
        tokenizer,
        ("$A </s>", "$A $B </s>"),
        max_length,
        clean_up_tokenization_spaces=False,
        **roles,
    )


def bart_bpe(texts: Iterable[str], size: int, max_length: int) -> PreTrainedTokenizerFast:
    """A BPE tokenizer with BART's special tokens: `<s> text </s>`."""
    tokenizer = _byte_level_bpe(texts, size, ["<s>", "<pad>", "</s>", "<unk>", "<mask>"])
    roles = {"bos_token": "<s>", "eos_token": "</s>", "cls_token": "<s>", "sep_token": "</s>"}
    others = {"pad_token": "<pad>", "unk_token": "<unk>", "mask_token": "<mask>"}
    template = "<s> $A </s>", "<s> $A </s> </s> $B </s>"
    return _framed(
        tokenizer, template, max_length, clean_up_tokenization_spaces=False, **roles, **others
    )


def _framed(
    tokenizer: Tokenizer, template: tuple[str, str], max_length: int, **options: str | bool
) -> PreTrainedTokenizerFast:
    """`template`: special tokens around one text, and around a pair. `options`: of the fast tokenizer."""
    used = sorted(set(" ".join(template).replace(":1", "").split()) - {"$A", "$B"})
    tokenizer.post_processor = processors.TemplateProcessing(
        single=template[0],
        pair=template[1],
        special_tokens=[(token, tokenizer.token_to_id(token)) for token in used],
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, model_max_length=max_length, **options
    )


def _byte_level_bpe(texts: Iterable[str], size: int, special: list[str]) -> Tokenizer:
    """BPE over bytes, so that it can represent any name. A word has the same tokens everywhere in a text."""
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    tokenizer.decoder = decoders.Sequence([decoders.ByteLevel(), decoders.Strip(" ", 1, 0)])
    trainer = trainers.BpeTrainer(
        vocab_size=size,
        special_tokens=special,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    return tokenizer
