"""python -m benchmarks.peers.bare DIR [DEVICE]: plain PyTorch in one process, controlled over stdin.

The program prints a line when it is ready. For each input line
{"batch": 32, "threads": 1, "seconds": 3, "texts": [...]} it prints texts per second and CPU seconds per
text. Batch 1 uses the transformers pipeline, as a handler with a dict of pipelines would; larger batches
use the tokenizer and the model, sorted by length, including the post-processing of the results.
"""

import json
import sys
import time
from collections.abc import Iterator
from typing import Any

import torch
from transformers import pipeline
from transformers.utils import logging


class PlainTorch:
    def __init__(self, directory: str, device: str) -> None:
        logging.disable_progress_bar()
        self._device = device
        self._pipeline = pipeline("text-classification", model=directory, device=device)

    def measure(self, batch: int, threads: int, seconds: float, texts: list[str]) -> dict[str, Any]:
        torch.set_num_threads(threads)
        batches = _batches(texts, batch)
        self._answers(next(batches))
        count, began, cpu = 0, time.perf_counter(), time.process_time()
        while time.perf_counter() - began < seconds:
            count += len(self._answers(next(batches)))
        lasted = time.perf_counter() - began
        return {"per_s": count / lasted, "cpu_s_per_text": (time.process_time() - cpu) / count}

    def _answers(self, texts: list[str]) -> list[Any]:
        if len(texts) == 1:
            return [self._pipeline(texts[0])]
        inputs = self._pipeline.tokenizer(texts, padding=True, return_tensors="pt").to(self._device)
        with torch.inference_mode():
            shares = self._pipeline.model(**inputs).logits.softmax(-1)
        best, labels = shares.max(-1), self._pipeline.model.config.id2label
        pairs = zip(best.values.tolist(), best.indices.tolist(), strict=True)
        return [[{"label": labels[index], "score": score}] for score, index in pairs]


def _batches(texts: list[str], size: int) -> Iterator[list[str]]:
    ordered = sorted(texts, key=len)
    cut = [ordered[at : at + size] for at in range(0, len(ordered) - size + 1, size)]
    while True:
        yield from cut


def main() -> None:
    bare = PlainTorch(sys.argv[1], *(sys.argv[2:] or ["cpu"]))
    print("ready", flush=True)
    for line in sys.stdin:
        print(json.dumps(bare.measure(**json.loads(line))), flush=True)


if __name__ == "__main__":
    main()
