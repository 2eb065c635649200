"""python -m benchmarks.simulation.tables

Writes the tables about workers in docs/sizing.md, between their comments, from the results of
`benchmarks.simulation`.
"""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import msgspec

from benchmarks.marked import filled
from benchmarks.simulation.__main__ import (
    CLIENTS,
    FRONT_LIMITED,
    MANY,
    MOST,
    NAME,
    SWEPT,
    SWEPT_CLIENTS,
    TRAFFIC,
    WORKERS,
    SimulatedRun,
    SimulationResult,
)
from benchmarks.simulation.costs import RESULTS, MeasuredRun
from benchmarks.simulation.experiment import Figures, SimulatedSetting
from model_handler.sharing.cores import workers as default_workers

PAGE = Path(__file__).parents[2] / "docs/sizing.md"
Runs = Sequence[SimulatedRun]


def main() -> None:
    PAGE.write_text(page(PAGE.read_text(encoding="utf-8"), stored()), encoding="utf-8")


def stored() -> SimulationResult:
    return msgspec.json.decode((RESULTS / NAME).read_bytes(), type=SimulationResult)


def page(text: str, result: SimulationResult) -> str:
    text = filled(text, "simulation and measurement", compared(result))
    text = filled(text, "vCPUs", by_cores(result.runs))
    text = filled(text, "number of workers", by_workers(result.runs))
    return filled(text, "front", by_front(result.runs))


def _row(*cells: str) -> str:
    return f"| {' | '.join(cells)} |"


def _rule(columns: int) -> str:
    return "|" + "---|" * columns


def found(runs: Runs, traffic: str, accept: Callable[[SimulatedSetting], bool]) -> Figures:
    """Of the one run that is accepted."""
    (run,) = (run for run in runs if run.traffic == traffic and accept(run.setting))
    return run.figures


# ---- beside the measurement ----


def compared(result: SimulationResult) -> Iterator[str]:
    yield _row(
        "workers", "clients", "CPU per request, ms: measured", "simulated", "batch: measured",
        "simulated", "requests/s of two workers over one: measured", "simulated",
    )  # fmt: skip
    yield _rule(8)
    for measured in result.costs.measured:
        yield _compared_row(result, measured)


def _compared_row(result: SimulationResult, measured: MeasuredRun) -> str:
    simulated = _local(result.runs, measured.workers, measured.clients)
    (one,) = (
        run for run in result.costs.measured if run.workers == 1 and run.clients == measured.clients
    )
    base = _local(result.runs, 1, measured.clients)
    return _row(
        str(measured.workers),
        str(measured.clients),
        f"{measured.cores_busy / measured.per_s * 1e3:.2f}",
        f"{simulated.cores_busy / simulated.per_s * 1e3:.2f}",
        f"{measured.batch:.2f}",
        f"{simulated.batch:.2f}",
        f"{measured.per_s / one.per_s:.2f}",
        f"{simulated.per_s / base.per_s:.2f}",
    )


def _local(runs: Runs, workers: int, clients: int) -> Figures:
    def accept(setting: SimulatedSetting) -> bool:
        return setting.local and (setting.workers, setting.clients) == (workers, clients)

    return found(runs, "20 tiny", accept)


# ---- by vCPUs ----


def by_cores(runs: Runs) -> Iterator[str]:
    yield _row("vCPUs", "workers", "models", *(f"{clients} clients" for clients in CLIENTS))
    yield _rule(3 + len(CLIENTS))
    for cores in WORKERS:
        for traffic in TRAFFIC:
            figures = [_usual(runs, traffic, cores, clients) for clients in CLIENTS]
            workers = str(default_workers(cores))
            yield _row(str(cores), workers, traffic, *map(_summary, figures))


def _usual(
    runs: Runs, traffic: str, cores: int, clients: int, workers: int | None = None
) -> Figures:
    """With one front, as it was measured; by default with the default number of workers."""
    wanted = (cores, workers or default_workers(cores), clients, 1.0, 1, 1.0)

    def accept(setting: SimulatedSetting) -> bool:
        size = setting.cores, setting.workers, setting.clients
        factors = setting.front, setting.fronts, setting.scan
        return not setting.local and (*size, *factors) == wanted

    return found(runs, traffic, accept)


def _summary(figures: Figures) -> str:
    return f"{figures.per_s:,.0f} ({figures.cores_busy:.1f}; {figures.front_busy:.0%})"


# ---- by number of workers ----


def by_workers(runs: Runs) -> Iterator[str]:
    columns = [(traffic, clients) for traffic in SWEPT for clients in SWEPT_CLIENTS]
    heads = (f"{traffic}, {clients} clients" for traffic, clients in columns)
    yield _row("vCPUs", "workers", *heads, "mean")
    yield _rule(3 + len(columns))
    for cores, numbers in WORKERS.items():
        best = [
            max(_usual(runs, *column_of(column, cores), workers).per_s for workers in numbers)
            for column in columns
        ]
        for workers in numbers:
            ratios = [
                _usual(runs, *column_of(column, cores), workers).per_s / most
                for column, most in zip(columns, best, strict=True)
            ]
            mean = sum(ratios) / len(ratios)
            yield _row(str(cores), str(workers), *(f"{each:.2f}" for each in (*ratios, mean)))


def column_of(column: tuple[str, int], cores: int) -> tuple[str, int, int]:
    traffic, clients = column
    return traffic, cores, clients


# ---- by front ----


def by_front(runs: Runs) -> Iterator[str]:
    yield _row(
        "vCPUs", "models", "containers", "front's CPU time ×", "requests/s", "cores busy", "p99, ms"
    )
    yield _rule(7)
    for run in runs:
        if _shows_front(run):
            yield _front_row(run.traffic, run.setting, run.figures)


def _shows_front(run: SimulatedRun) -> bool:
    setting = run.setting
    usual = setting.workers == default_workers(setting.cores) and setting.clients == MOST
    return usual and run.traffic in (*FRONT_LIMITED, MANY) and setting.cores in (16, 36)


def _front_row(traffic: str, setting: SimulatedSetting, figures: Figures) -> str:
    cost = f"{setting.front:g}" + (
        "" if setting.scan else "; scheduler independent of waiting models"
    )
    return _row(
        str(setting.cores),
        traffic,
        str(setting.fronts),
        cost,
        f"{figures.per_s:,.0f}",
        f"{figures.cores_busy:.1f}",
        f"{figures.p99_ms:,.0f}",
    )


if __name__ == "__main__":
    main()
