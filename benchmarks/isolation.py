"""python -m benchmarks.isolation --peer .venv-mms/bin/python [--models 50] [--output DIR]

Compares isolated models: the same code/inference.py artifacts in this container, with one process per
model, and in multi-model-server with sagemaker-inference, with two processes per model. Measures the time
per load over HTTP, and the memory per model as the growth of the proportional set size (PSS) of all
processes. Only one server runs at a time; the order alternates between repetitions. Writes raw JSON with
the environment.
"""

import argparse
import os
import statistics
import tempfile
from pathlib import Path
from typing import Any

from benchmarks import environment, stacks
from benchmarks.stacks import MeasuredServer, Stack

CODE = """
import json
import numpy

def model_fn(model_dir):
    with open(f"{model_dir}/weights.json") as file:
        return numpy.array(json.load(file))

def input_fn(body, content_type):
    return numpy.array(json.loads(body))

def predict_fn(data, model):
    return float(data @ model)

def output_fn(prediction, accept):
    return json.dumps(prediction)
"""
SERVICE = """
import sys
from sagemaker_inference.default_handler_service import DefaultHandlerService

service = DefaultHandlerService()

def handle(data, context):
    if not getattr(service, "ready", False):
        sys.path.insert(0, context.system_properties["model_dir"] + "/code")
        service.initialize(context)
        service.ready = True
    return None if data is None else service.handle(data, context)
"""
START = """
import sys
from sagemaker_inference import model_server
model_server.start_model_server(handler_service=sys.argv[1] + ":handle")
"""


def main() -> None:
    arguments = _arguments()
    with tempfile.TemporaryDirectory(prefix="mme-isolation-") as scratch:
        directories = _artifacts(Path(scratch), arguments.models)
        sides = _stacks(arguments.peer, Path(scratch))
        runs: dict[str, list[dict[str, float]]] = {side: [] for side in sides}
        for repetition in range(arguments.repetitions):
            for side in ("ours", "peer") if repetition % 2 == 0 else ("peer", "ours"):
                print(f"{side}: {len(directories)} models", flush=True)
                with stacks.serving(sides[side], Path(scratch)) as server:
                    runs[side].append(_measured(server, directories))
    result = {"models": arguments.models, **runs, **_ratios(runs)}
    _report(result)
    if arguments.output is not None:
        environment.write(arguments.output, "isolation", result)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--peer", type=Path, required=True, help="Python with multi-model-server")
    parser.add_argument(
        "--models", type=int, default=50, help="number of models (default: %(default)s)"
    )
    parser.add_argument(
        "--repetitions", type=int, default=2, help="runs of each server (default: %(default)s)"
    )
    parser.add_argument("--output", type=Path, default=None, help="directory for the raw JSON")
    return parser.parse_args()


def _artifacts(root: Path, count: int) -> list[Path]:
    directories = [root / f"{number:03}" / "model" for number in range(count)]
    for number, directory in enumerate(directories):
        (directory / "code").mkdir(parents=True)
        (directory / "code/inference.py").write_text(CODE)
        (directory / "weights.json").write_text(f"[1, {number}]")
    return directories


# ---- the two servers ----


def _stacks(peer: Path, root: Path) -> dict[str, Stack]:
    service = root / "service.py"
    service.write_text(SERVICE)
    path = {"PATH": f"{peer.absolute().parent}:{os.environ['PATH']}"}
    command = (str(peer), "-c", START, str(service))
    return {"ours": stacks.OURS, "peer": Stack("mms", command, path)}


# ---- measurements ----


def _measured(server: MeasuredServer, directories: list[Path]) -> dict[str, float]:
    """The first model is the warm-up; the others are measured."""
    _load(server, directories[0])
    before = server.pss_nbytes()
    seconds = [_load(server, directory) for directory in directories[1:]]
    held = server.pss_nbytes() - before
    for number, directory in enumerate(directories):
        answer = server.invoke(directory.parent.name, [2, 1])
        assert answer == 2 + number, answer
    return {
        "load_s": statistics.median(seconds),
        "all_loads_s": sum(seconds),
        "nbytes_per_model": held / len(seconds),
        "processes": len(server.processes()),
    }


def _load(server: MeasuredServer, directory: Path) -> float:
    return server.load(directory.parent.name, directory)


def _ratios(runs: dict[str, list[dict[str, float]]]) -> dict[str, Any]:
    def median(side: str, figure: str) -> float:
        return statistics.median(run[figure] for run in runs[side])

    return {
        "times_faster_load": median("peer", "load_s") / median("ours", "load_s"),
        "times_smaller": median("peer", "nbytes_per_model") / median("ours", "nbytes_per_model"),
    }


def _report(result: dict[str, Any]) -> None:
    print(f"{'':<24}{'ours':>12}{'peer':>12}")
    for figure, factor, unit in (
        ("load_s", 1e3, "ms"), ("all_loads_s", 1, "s"), ("nbytes_per_model", 1e-6, "MB"),
        ("processes", 1, ""),
    ):  # fmt: skip
        cells = [
            statistics.median(run[figure] for run in result[side]) * factor
            for side in ("ours", "peer")
        ]
        print(f"{figure + ' ' + unit:<24}" + "".join(f"{cell:>12.1f}" for cell in cells))
    print(f"load: {result['times_faster_load']:.1f} times faster")
    print(f"memory per model: {result['times_smaller']:.1f} times smaller")


if __name__ == "__main__":
    main()
