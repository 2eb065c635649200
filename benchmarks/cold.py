"""Cold starts: the time to start the server, and the time of a load compared with `from_pretrained`."""

import itertools
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from benchmarks import stacks
from benchmarks.scenarios import Cold, Start
from benchmarks.stacks import HUGGING_FACE, OURS, MeasuredServer
from benchmarks.traffic import texts

HOT = 5  # answers of which the median is a hot one
BASELINE = """
import json, sys, time
import torch
from transformers import AutoModelForSequenceClassification, AutoTokenizer
from transformers.utils import logging
logging.disable_progress_bar()
torch.set_num_threads(1)

def answer(model, tokenizer, text):
    with torch.inference_mode():
        model(**tokenizer(text, return_tensors="pt")).logits.softmax(-1).max().item()

for line in sys.stdin:
    path, text, hot = json.loads(line)
    stamps = [(time.perf_counter(), time.process_time())]
    tokenizer = AutoTokenizer.from_pretrained(path)
    model = AutoModelForSequenceClassification.from_pretrained(path).eval()
    for _ in range(hot + 1):
        answer(model, tokenizer, text)
        stamps.append((time.perf_counter(), time.process_time()))
    print(json.dumps(stamps), flush=True)
"""


def measure(scenario: Cold | Start, root: Path) -> dict[str, Any]:
    if isinstance(scenario, Start):
        return {"runs": list(_starts(scenario, root))}
    return {"runs": list(_colds(scenario, root))}


# ---- start ----


def _starts(scenario: Start, root: Path) -> Iterator[dict[str, Any]]:
    for repetition in range(scenario.repetitions):
        for stack in (OURS, HUGGING_FACE):
            with stacks.serving(stack, root) as server:
                run = {"side": server.name, "repetition": repetition, "ping_s": server.ping_s}
                print(f"  {run}", flush=True)
                yield run


# ---- cold ----


def _colds(scenario: Cold, root: Path) -> Iterator[dict[str, Any]]:
    """The first round of each side includes imports and reads from disk, and is dropped."""
    directory, text = root / scenario.model / "model", texts(30, 1, seed=3)[0]
    with stacks.serving(OURS, root) as server, _plain() as plain:
        for repetition in range(-1, scenario.repetitions):
            ours = _over(_ours(server, directory, text))
            theirs = _over(_from_pretrained(plain, directory, text))
            if repetition >= 0:
                run = {"repetition": repetition, "ours": ours, "from_pretrained": theirs}
                print(f"  {json.dumps(run)}", flush=True)
                yield run


def _ours(server: MeasuredServer, directory: Path, text: str) -> list[tuple[float, float]]:
    stamps = [(time.perf_counter(), server.cpu_s())]
    server.load("cold", directory)
    for _ in range(HOT + 1):
        server.invoke("cold", {"inputs": text})
        stamps.append((time.perf_counter(), server.cpu_s()))
    server.unload("cold")
    return stamps


@contextmanager
def _plain() -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-c", BASELINE]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        yield process
        process.terminate()


def _from_pretrained(
    plain: subprocess.Popen[str], directory: Path, text: str
) -> list[tuple[float, float]]:
    assert plain.stdin is not None
    assert plain.stdout is not None
    plain.stdin.write(json.dumps([str(directory), text, HOT]) + "\n")
    plain.stdin.flush()
    stamps: list[tuple[float, float]] = json.loads(plain.stdout.readline())
    return stamps


def _over(stamps: list[tuple[float, float]]) -> dict[str, float]:
    """Load and first response minus the median hot response: wall seconds and CPU seconds."""
    (wall, cpu), rest = stamps[0], stamps[1:]
    first = rest[0]
    hot = [(b[0] - a[0], b[1] - a[1]) for a, b in itertools.pairwise(rest)]
    hot_wall, hot_cpu = (statistics.median(each) for each in zip(*hot, strict=True))
    return {"wall_s": first[0] - wall - hot_wall, "cpu_s": first[1] - cpu - hot_cpu}
