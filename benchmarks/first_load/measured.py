"""First loads of artifacts with new content, in containers that run beside each other.

Each artifact is loaded and unloaded in one container after the other, in alternating order. The containers
are started again for each kind; the first artifact of a kind, for which libraries are imported and processes
started, counts as `cold`. Measured are the load's time and the CPU time of all processes of the container.
"""

import contextlib
import dataclasses
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from benchmarks import stacks
from benchmarks.figures import OURS
from benchmarks.scenarios import FirstLoad
from benchmarks.stacks import MeasuredServer, Stack

UNCHECKED, BEFORE = "unchecked", "before"
FOLDER = "first-load"  # of the models
SETTLED_S = 0.2  # after a load other processes prepare for the next one


def measure(scenario: FirstLoad, root: Path) -> dict[str, Any]:
    folder = root / FOLDER
    runs = [run for kind in scenario.kinds for run in _kind(scenario, folder, kind)]
    return {"runs": runs}


def _sides(before: str | None) -> dict[str, Stack]:
    unchecked = stacks.OURS.settings | {"MME_QUARANTINE": "false"}
    sides = {
        OURS: stacks.OURS,
        UNCHECKED: dataclasses.replace(stacks.OURS, name=UNCHECKED, settings=unchecked),
    }
    if before is not None:
        tree = Path(before).resolve()
        settings = stacks.OURS.settings | {"PYTHONPATH": str(tree)}
        sides[BEFORE] = dataclasses.replace(
            stacks.OURS, name=BEFORE, settings=settings, directory=tree
        )
    return sides


def _kind(scenario: FirstLoad, folder: Path, kind: str) -> Iterator[dict[str, Any]]:
    with contextlib.ExitStack() as stack:
        servers = {
            side: stack.enter_context(stacks.serving(each, folder))
            for side, each in _sides(scenario.before).items()
        }
        time.sleep(1)  # the rest of their start
        for repetition in range(-1, scenario.repetitions):
            directory = folder / kind / f"{repetition + 1:03}" / "model"
            for run in _round(servers, directory, repetition):
                yield {"kind": kind, "cold": repetition < 0, "repetition": repetition, **run}


def _round(
    servers: Mapping[str, MeasuredServer], directory: Path, number: int
) -> Iterator[dict[str, Any]]:
    turn = number % len(servers)
    order = [*servers][turn:] + [*servers][:turn]
    for side in order:
        server = servers[side]
        cpu_s = server.cpu_s()
        wall_s = server.load("first", directory)
        cpu_s = server.cpu_s() - cpu_s
        known_s = _loaded_again(server, directory)
        time.sleep(SETTLED_S)
        run = {"side": side, "wall_s": wall_s, "cpu_s": cpu_s, "known_s": known_s}
        print(f"  {directory.parent.parent.name} {number}: {run}", flush=True)
        yield run


def _loaded_again(server: MeasuredServer, directory: Path) -> float:
    """Seconds of a load of content that is known by then."""
    server.unload("first")
    seconds = server.load("first", directory)
    server.unload("first")
    return seconds
