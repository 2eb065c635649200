"""Examples as padded tensors, one function per kind of model.

Every function takes a tokenizer and examples, and returns the keyword arguments of the model's call.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from transformers import PreTrainedTokenizerFast

from .corpus import entities
from .corpus.split import Example

IGNORED = -100  # the loss ignores positions with this label


def texts_and_labels(
    tokenizer: PreTrainedTokenizerFast, examples: Sequence[Example[str]], labels: Sequence[str]
) -> dict[str, Tensor]:
    batch = _encoded(tokenizer, [example.text for example in examples])
    batch["labels"] = torch.tensor([labels.index(example.target) for example in examples])
    return batch


def words_and_tags(
    tokenizer: PreTrainedTokenizerFast, examples: Sequence[Example[list[str]]]
) -> dict[str, Tensor]:
    """The tag of a word belongs to its first token; further tokens get the tag for the inside of a name."""
    encoding = tokenizer(
        [example.text.split() for example in examples],
        is_split_into_words=True,
        padding=True,
        truncation=True,
        return_tensors="pt",
    )
    rows = [
        _piece_labels(encoding.word_ids(row), example.target)
        for row, example in enumerate(examples)
    ]
    return {
        "input_ids": encoding["input_ids"],
        "attention_mask": encoding["attention_mask"],
        "labels": torch.tensor(rows),
    }


def _piece_labels(word_ids: Sequence[int | None], tags: Sequence[str]) -> list[int]:
    labels, previous = [], None
    for word in word_ids:
        if word is None:
            labels.append(IGNORED)
        else:
            tag = tags[word] if word != previous else tags[word].replace("B-", "I-")
            labels.append(entities.LABELS.index(tag))
        previous = word
    return labels


def texts_and_answers(
    tokenizer: PreTrainedTokenizerFast, examples: Sequence[Example[str]]
) -> dict[str, Tensor]:
    batch = _encoded(tokenizer, [example.text for example in examples])
    answers = _encoded(tokenizer, [example.target for example in examples])
    padding = answers["attention_mask"] == 0
    batch["labels"] = answers["input_ids"].masked_fill(padding, IGNORED)
    return batch


def _encoded(tokenizer: PreTrainedTokenizerFast, texts: list[str]) -> dict[str, Tensor]:
    encoding = tokenizer(texts, padding=True, truncation=True, return_tensors="pt")
    return {name: encoding[name] for name in ("input_ids", "attention_mask")}
