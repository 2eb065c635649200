"""python -m benchmarks.simulation.measuring [--models DIR] [--output FILE] [--front]

Measures what the simulation needs to know: the CPU time of the front, and the batches of a tiny model and of
a bert-base in a worker. It takes ten minutes on two cores. The container itself is measured too, so that
`benchmarks.simulation` can compare its figures.
"""

import argparse
import contextlib
import itertools
import statistics
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import msgspec

from benchmarks import environment, load, stacks
from benchmarks.load import RequestOutcome
from benchmarks.scenarios import tiny
from benchmarks.simulation.costs import FILE, Costs, MeasuredRun, read
from benchmarks.simulation.measuring import front_costs, worker_costs
from benchmarks.simulation.measuring.worker_costs import Effort
from benchmarks.stacks import ROOT, MeasuredServer

MODELS = tiny(20)
LARGE = "topics"  # a bert-base
EFFORTS = {
    "tiny": Effort((1, 2, 3, 4, 6, 8, 12, 16, 24, 32), 5, 6),
    "bert-base": Effort((1, 2, 4, 8), 2, 4),
}
DIRECTORIES = {"tiny": MODELS[:2], "bert-base": (LARGE, LARGE)}
FRONT_REPETITIONS = 4
CLIENTS = (8, 32)
WORKERS = (1, 2)
WINDOWS, WINDOW_S = 5, 3.0
SETTLE_S = 3.0  # of traffic, in which replicas are opened


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--models", type=Path, default=ROOT / "build/bench-models", help="directory for the models"
    )
    parser.add_argument("--output", type=Path, default=FILE, help="file for the costs")
    parser.add_argument(
        "--front", action="store_true", help="measure the front only, and keep the other costs"
    )
    arguments = parser.parse_args()
    root = arguments.models
    build = [sys.executable, "-m", "benchmarks.full_models", root, *MODELS, LARGE]
    subprocess.run(build, check=True)
    costs = with_front(root, read(arguments.output)) if arguments.front else measured(root)
    text = msgspec.json.format(msgspec.json.encode(costs), indent=1)
    arguments.output.write_bytes(text + b"\n")


def measured(root: Path) -> Costs:
    front, client_s = front_costs.measure(root, MODELS[0], FRONT_REPETITIONS)
    models = {
        kind: worker_costs.measure([root / name / "model" for name in names], EFFORTS[kind])
        for kind, names in DIRECTORIES.items()
    }
    return Costs(front, client_s, models, list(_container(root)), environment.describe())


def with_front(root: Path, others: Costs) -> Costs:
    front, client_s = front_costs.measure(root, MODELS[0], FRONT_REPETITIONS)
    return msgspec.structs.replace(others, front=front, client_s=client_s)


# ---- the container ----


def _container(root: Path) -> Iterator[MeasuredRun]:
    with contextlib.ExitStack() as stack:
        servers = {
            workers: stack.enter_context(stacks.serving(stacks.with_workers(workers), root))
            for workers in WORKERS
        }
        for server, name in itertools.product(servers.values(), MODELS):
            server.load(name, root / name / "model")
        for clients in CLIENTS:
            yield from _alternating(servers, clients)


def _alternating(servers: dict[int, MeasuredServer], clients: int) -> Iterator[MeasuredRun]:
    for server in servers.values():
        _window(server, clients, SETTLE_S)
    rounds = [
        {workers: _window(server, clients, WINDOW_S) for workers, server in servers.items()}
        for _ in range(WINDOWS)
    ]
    for workers in servers:
        found = [each[workers] for each in rounds]
        figures = (statistics.median(run[index] for run in found) for index in range(len(found[0])))
        yield MeasuredRun(workers, clients, *figures)


def _window(
    server: MeasuredServer, clients: int, seconds: float
) -> tuple[float, float, float, float]:
    """Requests per second, p99 in ms, busy cores, requests per batch."""
    batches, requests = front_costs.batch_counts(server)
    cpu_s = server.cpu_s()
    plan = load.Plan(server.port, front_costs.kinds(list(MODELS)), seconds, clients)
    outcome: RequestOutcome = load.run(plan)
    more_batches, more_requests = front_costs.batch_counts(server)
    answered = more_requests - requests
    busy = (server.cpu_s() - cpu_s + outcome.generator_cpu_s) * outcome.per_s / answered
    return outcome.per_s, outcome.all.p99, busy, answered / (more_batches - batches)


if __name__ == "__main__":
    main()
