"""python -m benchmarks.density [--models 200] [--output DIR]

Measures the memory of an idle model besides its weights, and the time of a load compared with
`from_pretrained` in the same run. 200 tiny BERTs with different weights and the same tokenizer are loaded
into one container over HTTP. Memory is the anonymous memory (RssAnon) of the worker process: weights are
file-backed pages and are not counted. Writes the raw results and the environment as JSON.
"""

import argparse
import itertools
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks import environment
from benchmarks.measured_container import MeasuredContainer

REPETITIONS = 5
BASELINE = """
import json, sys, time
import torch
from transformers import AutoModelForSequenceClassification, AutoTokenizer
from transformers.utils import logging
logging.disable_progress_bar()
torch.set_num_threads(1)
seconds = []
for path in sys.argv[1:]:
    began = time.perf_counter()
    AutoTokenizer.from_pretrained(path)
    AutoModelForSequenceClassification.from_pretrained(path)
    seconds.append(time.perf_counter() - began)
print(json.dumps(seconds))
"""


def main() -> None:
    arguments = _arguments()
    with tempfile.TemporaryDirectory(prefix="mme-density-") as scratch:
        root = Path(scratch)
        print(f"making {arguments.models} models", flush=True)
        paths = _make(root, arguments.models)
        print("loading them with from_pretrained and in the container, in turn", flush=True)
        result = _measure(root, paths)
    _report(result)
    if arguments.output is not None:
        environment.write(arguments.output, "density", result)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--models", type=int, default=200, help="number of models (default: %(default)s)"
    )
    parser.add_argument("--output", type=Path, default=None, help="directory for the raw JSON")
    return parser.parse_args()


def _make(root: Path, count: int) -> list[Path]:
    """Build the models in a separate process, since this one must not import PyTorch."""
    command = [sys.executable, "-m", "benchmarks.tiny_models", str(root), str(count)]
    subprocess.run(command, check=True)
    return [root / f"{number:04}" / "model" for number in range(count)]


def _measure(root: Path, paths: list[Path]) -> dict[str, Any]:
    """The first fifth is the warm-up of both sides; the rest is loaded in alternating blocks."""
    warm, rest = paths[: len(paths) // 5], paths[len(paths) // 5 :]
    size = len(rest) // REPETITIONS
    blocks = [rest[at : at + size] for at in range(0, size * REPETITIONS, size)]
    ours, theirs = [], []
    with MeasuredContainer(root) as server:
        _load(server, warm)
        before = server.worker_anonymous_nbytes()
        for block in blocks:
            theirs.append(statistics.median(_from_pretrained(block)))
            ours.append(statistics.median(_load(server, block)))
        grown = server.worker_anonymous_nbytes() - before
        loaded = sum(map(len, blocks))
        for path in [*warm, *itertools.chain(*blocks)]:
            server.invoke(path.parent.name, {"inputs": "warm as toast"})
        used = server.worker_anonymous_nbytes()
    return {
        "models": len(warm) + loaded,
        "weights_nbytes_per_model": (paths[0] / "model.safetensors").stat().st_size,
        "anonymous_nbytes_per_idle_model": grown / loaded,
        "anonymous_nbytes_after_one_request_each": used - before - grown,
        "load_s": ours,
        "from_pretrained_s": theirs,
        "ratio": [mine / yours for mine, yours in zip(ours, theirs, strict=True)],
    }


def _load(server: MeasuredContainer, paths: list[Path]) -> list[float]:
    seconds = []
    for path in paths:
        began = time.perf_counter()
        server.load(path.parent.name, path)
        seconds.append(time.perf_counter() - began)
    return seconds


def _from_pretrained(paths: list[Path]) -> list[float]:
    """Seconds per model in a new process, whose first two loads include imports and are dropped."""
    command = [sys.executable, "-c", BASELINE, *map(str, [*paths[:2], *paths])]
    output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    seconds: list[float] = json.loads(output.splitlines()[-1])
    return seconds[2:]


def _report(result: dict[str, Any]) -> None:
    mega = 1e6
    idle = result["anonymous_nbytes_per_idle_model"] / mega
    weights = result["weights_nbytes_per_model"] / mega
    ours, theirs = (
        statistics.median(result["load_s"]),
        statistics.median(result["from_pretrained_s"]),
    )
    print(f"models loaded                       {result['models']}")
    print(f"weights per model                   {weights:.2f} MB (file-backed)")
    print(f"memory per idle model beyond them   {idle:.3f} MB")
    print(f"load over HTTP, median              {ours * 1e3:.1f} ms")
    print(f"from_pretrained, median             {theirs * 1e3:.1f} ms")
    print(
        f"ratio, median of {REPETITIONS} blocks            {statistics.median(result['ratio']):.2f}"
    )


if __name__ == "__main__":
    main()
