"""python -m benchmarks [SCENARIO…] [--output DIR] [--models DIR]

Runs the named scenarios (default: all regular scenarios). Writes the raw results of each scenario and its
environment to one JSON file; `python -m benchmarks.document DIR` makes tables of them.
"""

import argparse
import dataclasses
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from benchmarks import cold, cores, environment, generation, pressure, steady
from benchmarks.first_load import measured as first_load
from benchmarks.scenarios import (
    REGULAR,
    SCENARIOS,
    Churn,
    Cold,
    Cycles,
    FirstLoad,
    Hog,
    Hot,
    Mix,
    Neighbours,
    Scenario,
    SeveralWorkers,
    Start,
    Storm,
    WorkerMemory,
    tiny,
)

MODELS = Path(__file__).parent.parent / "build/bench-models"


def main() -> None:
    arguments = _arguments()
    if unknown := set(arguments.scenarios) - set(SCENARIOS):
        raise SystemExit(f"no scenario {', '.join(unknown)}; there are {', '.join(SCENARIOS)}")
    for name in arguments.scenarios or REGULAR:
        scenario = _chosen(name, arguments)
        print(f"{name}: {scenario}", flush=True)
        _build(arguments.models, scenario)
        began = time.monotonic()
        result = measure(scenario, arguments.models)
        lasted = round(time.monotonic() - began, 1)
        print(f"{name}: {lasted} s", flush=True)
        if arguments.output is not None:
            record = {"scenario": dataclasses.asdict(scenario), "seconds": lasted, **result}
            environment.write(arguments.output, name, record)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "scenarios", nargs="*", metavar="SCENARIO", help="scenarios to run (default: all regular)"
    )
    parser.add_argument("--output", type=Path, default=None, help="directory for the raw JSON")
    parser.add_argument("--models", type=Path, default=MODELS, help="directory for the models")
    parser.add_argument("--cycles", type=int, default=None, help="cycles of the scenario `cycles`")
    parser.add_argument("--kinds", default=None, help="kinds of `first-load`, with commas between")
    parser.add_argument(
        "--before", default=None, help="another version's directory, for `first-load`"
    )
    return parser.parse_args()


def _chosen(name: str, arguments: argparse.Namespace) -> Scenario:
    scenario = SCENARIOS[name]
    if isinstance(scenario, Cycles) and arguments.cycles is not None:
        return dataclasses.replace(scenario, cycles=arguments.cycles)
    if isinstance(scenario, FirstLoad):
        kinds = tuple(arguments.kinds.split(",")) if arguments.kinds else scenario.kinds
        return dataclasses.replace(scenario, kinds=kinds, before=arguments.before)
    return scenario


def _build(root: Path, scenario: Scenario) -> None:
    """Build the models in a separate process, since this one must not import PyTorch."""
    if isinstance(scenario, FirstLoad):
        count = str(scenario.repetitions + 1)
        what = ["first_load.models", str(root / first_load.FOLDER), count, *scenario.kinds]
    else:
        what = ["full_models", str(root), *needed(scenario)]
    command = [sys.executable, "-m", f"benchmarks.{what[0]}", *what[1:]]
    subprocess.run(command, check=True)


def needed(scenario: Scenario) -> tuple[str, ...]:
    """The models that a scenario needs."""
    match scenario:
        case Hot(model=model) | Cold(model=model):
            return (model,)
        case Mix(models=models):
            return models
        case SeveralWorkers(traffic=traffic):
            return needed(traffic)
        case (
            WorkerMemory(models=count)
            | Churn(models=count)
            | Storm(models=count)
            | Cycles(models=count)
        ):
            return tiny(count)
        case Neighbours(asked=asked, coming=coming):
            return (asked, *coming)
        case Hog(short=short, generating=generating):
            return (short, generating)
        case Start() | FirstLoad():
            return ()


def measure(scenario: Scenario, root: Path) -> dict[str, Any]:
    match scenario:
        case Hot() | Mix():
            return steady.measure(scenario, root)
        case SeveralWorkers():
            return cores.measure(scenario, root)
        case WorkerMemory():
            return cores.memory(scenario, root)
        case Churn() | Storm() | Cycles() | Neighbours():
            return pressure.measure(scenario, root)
        case Hog():
            return generation.measure(scenario, root)
        case Cold() | Start():
            return cold.measure(scenario, root)
        case FirstLoad():
            return first_load.measure(scenario, root)


if __name__ == "__main__":
    main()
