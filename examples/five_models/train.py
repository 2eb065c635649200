"""python -m examples.five_models.train [--only NAME] [--output DIR]

Trains the models on generated text, measures them on held-out text, and writes the artifacts and their
scores (accuracy.json beside the folder). Each training uses one thread; as many run in parallel as there
are cores.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from itertools import islice
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.optim.lr_scheduler import OneCycleLR
from transformers import PreTrainedModel, PreTrainedTokenizerFast, set_seed

from .corpus.split import Example, training
from .evaluate import ARTIFACTS, METRICS, score
from .recipes import RECIPES, Recipe

SEED = 7
VOCABULARY_EXAMPLES = 20_000
POOL = 16  # number of batches generated together, to group texts of similar length


def main() -> None:
    options = _arguments()
    names = [options.only] if options.only else sorted(RECIPES, key=_cost, reverse=True)
    began = time.perf_counter()
    with ProcessPoolExecutor(os.cpu_count(), mp_context=get_context("spawn")) as pool:
        for training_run in as_completed(
            pool.submit(_train, name, options.output) for name in names
        ):
            name, scored = training_run.result()
            _record(options.output.parent / "accuracy.json", name, scored)
    print(f"{len(names)} models in {time.perf_counter() - began:.0f} s")


def _cost(name: str) -> int:
    """Sort key: the longest trainings start first."""
    return RECIPES[name].steps * RECIPES[name].batch_size


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", choices=list(RECIPES), help="train this model only")
    parser.add_argument(
        "--output", type=Path, default=ARTIFACTS, help="folder for the models (default: artifacts/)"
    )
    return parser.parse_args()


def _train(name: str, output: Path) -> tuple[str, dict[str, Any]]:
    torch.set_num_threads(1)
    set_seed(SEED)
    recipe, began = RECIPES[name], time.perf_counter()
    examples = training(recipe.generate, SEED)
    tokenizer = recipe.tokenizer(_vocabulary_texts(recipe))
    model = recipe.model(tokenizer)
    print(f"{name}: {model.num_parameters():,} parameters, {recipe.steps} steps", flush=True)
    _fit(name, model, tokenizer, examples)
    seconds = time.perf_counter() - began
    measured = score(recipe, model.eval(), tokenizer)
    print(f"{name}: {METRICS[recipe.task]} {measured:.3f} on held-out text, {seconds:.0f} s")
    _write(output / name, model, tokenizer)
    return name, {
        "metric": METRICS[recipe.task],
        "score": round(measured, 3),
        "held_out": recipe.held_out,
        "training_seconds": round(seconds),
    }


def _vocabulary_texts(recipe: Recipe) -> Iterator[str]:
    for example in islice(training(recipe.generate, SEED + 1), VOCABULARY_EXAMPLES):
        yield example.text
        if recipe.task in {"translation", "summarization"}:
            yield example.target


def _fit(
    name: str,
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerFast,
    examples: Iterator[Example[Any]],
) -> None:
    recipe = RECIPES[name]
    optimizer = torch.optim.AdamW(model.parameters(), betas=(0.9, 0.98), weight_decay=0.01)
    schedule = OneCycleLR(
        optimizer, recipe.learning_rate, total_steps=recipe.steps, pct_start=0.1,
        cycle_momentum=False,
    )  # fmt: skip
    model.train()
    total = 0.0
    for step, batch in enumerate(_batches(recipe, tokenizer, examples), start=1):
        loss = model(**batch).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()
        total += loss.item()
        if step % 100 == 0:
            print(f"{name}: step {step} loss {total / 100:.4f}", flush=True)
            total = 0.0


def _batches(
    recipe: Recipe, tokenizer: PreTrainedTokenizerFast, examples: Iterator[Example[Any]]
) -> Iterator[dict[str, Tensor]]:
    """`recipe.steps` batches. Texts of a batch have similar lengths; the order of lengths is random."""
    size, drawn = recipe.batch_size, 0
    while True:
        pool = sorted(islice(examples, POOL * size), key=lambda example: len(example.text))
        for index in torch.randperm(POOL).tolist():
            if drawn == recipe.steps:
                return
            drawn += 1
            yield recipe.batch(tokenizer, pool[index * size : (index + 1) * size])


def _write(directory: Path, model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast) -> None:
    model.save_pretrained(directory)
    tokenizer.save_pretrained(directory)
    for path in directory.iterdir():
        path.chmod(0o644)  # save_pretrained makes the weights readable by their owner only


def _record(path: Path, name: str, scored: dict[str, Any]) -> None:
    """Write the score of one model; keep those of the others."""
    scores = json.loads(path.read_text()) if path.exists() else {}
    scores[name] = scored
    ordered = {model: scores[model] for model in RECIPES if model in scores}
    path.write_text(json.dumps(ordered, indent=2) + "\n")


if __name__ == "__main__":
    main()
