"""python -m examples.five_models.evaluate [--only NAME] [--artifacts DIR]

Measures the trained models on held-out text: accuracy for the classifiers, entity F1 for the model
of names, exact matches for translation and summarization. Prints one line per model.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from transformers import (
    AutoModelForSeq2SeqLM,
    AutoModelForSequenceClassification,
    AutoModelForTokenClassification,
    AutoTokenizer,
    PreTrainedModel,
    PreTrainedTokenizerFast,
)

from .batches import IGNORED
from .corpus.split import Example, held_out
from .recipes import RECIPES, Recipe

ARTIFACTS = Path(__file__).parent / "artifacts"
METRICS = {
    "text-classification": "accuracy",
    "token-classification": "entity F1",
    "translation": "exact match",
    "summarization": "exact match",
}
_CLASSES = {
    "text-classification": AutoModelForSequenceClassification,
    "token-classification": AutoModelForTokenClassification,
    "translation": AutoModelForSeq2SeqLM,
    "summarization": AutoModelForSeq2SeqLM,
}
_BATCH_SIZE = 100


def accuracy(name: str, directory: Path) -> float:
    """The score in [0, 1] of the artifact in `directory` on the recipe's held-out examples."""
    recipe = RECIPES[name]
    tokenizer = AutoTokenizer.from_pretrained(directory, local_files_only=True)
    model = _CLASSES[recipe.task].from_pretrained(directory, local_files_only=True)
    return score(recipe, model.eval(), tokenizer)


def score(recipe: Recipe, model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast) -> float:
    examples = held_out(recipe.generate, recipe.held_out)
    examples.sort(key=lambda example: len(example.text))  # batches of similar length
    batches = [examples[i : i + _BATCH_SIZE] for i in range(0, len(examples), _BATCH_SIZE)]
    with torch.inference_mode():
        return _SCORES[recipe.task](recipe, model, tokenizer, batches)


Batches = Sequence[Sequence[Example[Any]]]


def _label_accuracy(
    recipe: Recipe, model: Any, tokenizer: PreTrainedTokenizerFast, batches: Batches
) -> float:
    right = [
        prediction == label for prediction, label in _predictions(recipe, model, tokenizer, batches)
    ]
    return right.count(True) / len(right)


def _entity_f1(
    recipe: Recipe, model: Any, tokenizer: PreTrainedTokenizerFast, batches: Batches
) -> float:
    """F1 over whole names: a name counts if its first word, last word and kind are right."""
    right = found = wanted = 0
    for predicted, labels in _predictions(recipe, model, tokenizer, batches):
        kept = [i for i, label in enumerate(labels) if label != IGNORED]
        spans, gold = (
            entities([model.config.id2label[row[i]] for i in kept]) for row in (predicted, labels)
        )
        right, found, wanted = right + len(spans & gold), found + len(spans), wanted + len(gold)
    return 2 * right / (found + wanted)


def entities(tags: Sequence[str]) -> set[tuple[int, int, str]]:
    """(first, last + 1, kind) of every name in a sequence of BIO tags."""
    spans, start = set(), 0
    for i, tag in enumerate([*tags, "O"]):
        previous = tags[i - 1] if i else "O"
        if previous != "O" and (tag == "O" or tag[0] == "B" or tag[2:] != previous[2:]):
            spans.add((start, i, previous[2:]))
        if tag != "O" and (previous == "O" or tag[0] == "B" or tag[2:] != previous[2:]):
            start = i
    return spans


def _predictions(
    recipe: Recipe, model: Any, tokenizer: PreTrainedTokenizerFast, batches: Batches
) -> Iterator[tuple[Any, Any]]:
    for examples in batches:
        inputs = recipe.batch(tokenizer, examples)
        labels = inputs.pop("labels").tolist()
        yield from zip(model(**inputs).logits.argmax(-1).tolist(), labels, strict=True)


def _exact_matches(
    recipe: Recipe, model: Any, tokenizer: PreTrainedTokenizerFast, batches: Batches
) -> float:
    right = [
        answer == example.target
        for examples in batches
        for answer, example in zip(
            answers(model, tokenizer, [example.text for example in examples]), examples, strict=True
        )
    ]
    return right.count(True) / len(right)


def answers(model: Any, tokenizer: PreTrainedTokenizerFast, texts: list[str]) -> list[str]:
    """The texts that a sequence-to-sequence model generates with its generation_config.json."""
    inputs = tokenizer(texts, padding=True, truncation=True, return_tensors="pt")
    return list(tokenizer.batch_decode(model.generate(**inputs), skip_special_tokens=True))


_SCORES: dict[str, Callable[[Recipe, Any, PreTrainedTokenizerFast, Batches], float]] = {
    "text-classification": _label_accuracy,
    "token-classification": _entity_f1,
    "translation": _exact_matches,
    "summarization": _exact_matches,
}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", choices=list(RECIPES), help="measure this model only")
    parser.add_argument(
        "--artifacts",
        type=Path,
        default=ARTIFACTS,
        help="folder of the models (default: artifacts/)",
    )
    options = parser.parse_args()
    for name in [options.only] if options.only else RECIPES:
        measured = accuracy(name, options.artifacts / name)
        print(f"{name:20} {METRICS[RECIPES[name].task]:12} {measured:.3f}")


if __name__ == "__main__":
    main()
