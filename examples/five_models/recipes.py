"""The five models: text, vocabulary, architecture and amount of training of each.

`RECIPES` has one recipe per model, by the model's name.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from . import architectures, batches, vocabulary
from .corpus import entities, headlines, reports, reviews, translations
from .corpus.split import Example, Generator

SENTIMENTS = [reviews.NEGATIVE, reviews.POSITIVE]


@dataclass(frozen=True, slots=True)
class Recipe:
    """`batch` converts examples to the model's arguments. `learning_rate`: highest of the schedule."""

    task: str
    generate: Generator[Any]
    tokenizer: Callable[[Iterable[str]], PreTrainedTokenizerFast]
    model: Callable[[PreTrainedTokenizerFast], PreTrainedModel]
    batch: Callable[[PreTrainedTokenizerFast, Sequence[Example[Any]]], dict[str, Tensor]]
    steps: int
    batch_size: int
    learning_rate: float
    held_out: int


RECIPES = {
    "sentiment": Recipe(
        task="text-classification",
        generate=reviews.review,
        tokenizer=partial(vocabulary.wordpiece, size=2000, max_length=128, lowercase=True),
        model=partial(architectures.distilbert_classifier, labels=SENTIMENTS),
        batch=partial(batches.texts_and_labels, labels=SENTIMENTS),
        steps=2000,
        batch_size=64,
        learning_rate=2e-3,
        held_out=1000,
    ),
    "translation_en_de": Recipe(
        task="translation",
        generate=translations.translation,
        tokenizer=partial(vocabulary.marian_bpe, size=2600, max_length=128),
        model=architectures.marian,
        batch=batches.texts_and_answers,
        steps=2600,
        batch_size=64,
        learning_rate=3e-3,
        held_out=300,
    ),
    "summarization": Recipe(
        task="summarization",
        generate=reports.report,
        tokenizer=partial(vocabulary.bart_bpe, size=2400, max_length=128),
        model=architectures.bart,
        batch=batches.texts_and_answers,
        steps=3000,
        batch_size=32,
        learning_rate=3e-3,
        held_out=300,
    ),
    "ner": Recipe(
        task="token-classification",
        generate=entities.sentence,
        tokenizer=partial(vocabulary.wordpiece, size=2400, max_length=128, lowercase=False),
        model=partial(architectures.bert_tagger, labels=entities.LABELS),
        batch=batches.words_and_tags,
        steps=1500,
        batch_size=64,
        learning_rate=2e-3,
        held_out=1000,
    ),
    "news_topics": Recipe(
        task="text-classification",
        generate=headlines.item,
        tokenizer=partial(vocabulary.wordpiece, size=2000, max_length=128, lowercase=True),
        model=partial(architectures.bert_classifier, labels=headlines.TOPICS),
        batch=partial(batches.texts_and_labels, labels=headlines.TOPICS),
        steps=500,
        batch_size=64,
        learning_rate=2e-3,
        held_out=1000,
    ),
}
