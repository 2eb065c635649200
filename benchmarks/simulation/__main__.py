"""python -m benchmarks.simulation [--output DIR] [--processes N]

Runs the real scheduler over simulated workers in virtual time, with the costs that
`benchmarks.simulation.measuring` has measured: machines of 2 to 36 vCPUs, several numbers of workers, several
kinds of traffic. `benchmarks.simulation.tables` writes the tables in docs/sizing.md.
"""

import argparse
import itertools
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import msgspec

from benchmarks.simulation.costs import FILE, RESULTS, Costs, read
from benchmarks.simulation.experiment import Figures, SimulatedSetting, simulate
from model_handler.sharing.cores import workers as default_workers

NAME = "cores.json"
MOST = 512
CLIENTS = (8, 32, 128, MOST)
WORKERS = {
    4: (1, 2, 3, 4),
    8: (1, 6, 7, 8),
    16: (1, 8, 12, 14, 16),
    36: (1, 18, 28, 32, 36),
}
LONG = {"warm_up_s": 4.0, "seconds": 6.0}  # forwards of a bert-base take 0.1 s and more
MANY = "200 tiny"
TRAFFIC: dict[str, dict[str, Any]] = {
    "20 tiny": {"models": 20},
    MANY: {"models": 200},
    "one tiny": {"models": 1},
    "18 tiny, 2 bert-base": {"models": 20, "mixed": True, **LONG},
}
SWEPT = ("20 tiny", "18 tiny, 2 bert-base")  # with every number of workers
SWEPT_CLIENTS = (32, MOST)
FRONT_LIMITED = ("20 tiny", "one tiny")


class SimulatedRun(msgspec.Struct, frozen=True):
    traffic: str
    setting: SimulatedSetting
    figures: Figures


class SimulationResult(msgspec.Struct, frozen=True):
    costs: Costs
    runs: list[SimulatedRun]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--output", type=Path, default=RESULTS, help="directory for the raw JSON")
    parser.add_argument("--costs", type=Path, default=FILE, help="file of the measured costs")
    parser.add_argument("--processes", type=int, default=1, help="runs at the same time")
    arguments = parser.parse_args()
    costs = read(arguments.costs)
    with ProcessPoolExecutor(arguments.processes) as pool:
        runs = list(pool.map(partial(played, costs), dict.fromkeys(settings())))
    text = msgspec.json.format(msgspec.json.encode(SimulationResult(costs, runs)), indent=1)
    (arguments.output / NAME).write_bytes(text + b"\n")


def played(costs: Costs, chosen: tuple[str, SimulatedSetting]) -> SimulatedRun:
    traffic, setting = chosen
    run = SimulatedRun(traffic, setting, simulate(setting, costs))
    print(traffic, setting, run.figures, flush=True)
    return run


def settings() -> Iterator[tuple[str, SimulatedSetting]]:
    yield from _as_measured()
    yield from _by_default()
    yield from _with_other_workers()
    yield from _with_other_fronts()
    yield from _without_scans()


def _setting(traffic: str, cores: int, workers: int, clients: int, **more: Any) -> Any:
    found = {**TRAFFIC[traffic], "cores": cores, "workers": workers, "clients": clients, **more}
    return traffic, SimulatedSetting(**found)


def _as_measured() -> Iterator[tuple[str, SimulatedSetting]]:
    for workers, clients in itertools.product((1, 2), (8, 32)):
        yield _setting("20 tiny", 2, workers, clients, local=True, seconds=5.0)


def _by_default() -> Iterator[tuple[str, SimulatedSetting]]:
    for cores, traffic, clients in itertools.product(WORKERS, TRAFFIC, CLIENTS):
        yield _setting(traffic, cores, default_workers(cores), clients)


def _with_other_workers() -> Iterator[tuple[str, SimulatedSetting]]:
    for cores, traffic, clients in itertools.product(WORKERS, SWEPT, SWEPT_CLIENTS):
        for workers in WORKERS[cores]:
            yield _setting(traffic, cores, workers, clients)


def _with_other_fronts() -> Iterator[tuple[str, SimulatedSetting]]:
    """A front that costs half, two whole containers that share the machine, and both."""
    for cores, traffic in itertools.product((16, 36), FRONT_LIMITED):
        for front, fronts in ((0.5, 1), (1.0, 2), (0.5, 2)):
            workers = default_workers(cores)
            yield _setting(traffic, cores, workers, MOST, front=front, fronts=fronts)


def _without_scans() -> Iterator[tuple[str, SimulatedSetting]]:
    """Many models, as if the scheduler's turns took as long as those of few."""
    for cores in (16, 36):
        yield _setting(MANY, cores, default_workers(cores), MOST, scan=0.0)


if __name__ == "__main__":
    main()
