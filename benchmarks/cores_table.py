"""The section of docs/performance.md about several workers, as ratios to one worker in the same rounds."""

import statistics
from collections.abc import Callable, Iterator, Mapping, Sequence

from benchmarks.figures import PEER, TRITON, Raw, others_cores, ratio
from benchmarks.medians import middle
from benchmarks.scenarios import CLIENTS, SCENARIOS, SeveralWorkers, WorkerMemory, workers_side

ONE = workers_side(1)
PEERS = {PEER: "Hugging Face toolkit", TRITON: "Triton"}
COLUMNS: dict[tuple[str, ...], float] = {  # values of a run, each with the factor of its unit
    ("per_s",): 1,
    ("all", "p99"): 1,
    ("cpu_s_per_request",): 1e3,
}
STAGES = {
    "started": "without models",
    "loaded": "all loaded",
    "asked": "after one request to each",
    "served": "after traffic over all",
}
TRAFFIC = """## Several workers

The container with one and with several worker processes (`MME_WORKERS`), and other servers, in the same
rounds. In brackets: divided by the value with one worker. CPU time is that of all processes of a server.
Programs outside of the measurement used {others:.2f} cores (median over the windows).

| scenario | clients | server | requests/s | p99, ms | CPU per request, ms | cores busy |
|---|---|---|---|---|---|---|"""
MEMORY = """Memory in MB (PSS of all processes) with {models} tiny models, whose files have {files:,.0f} MB.
"Traffic": {clients} clients for {seconds:g} s, all models equally often.

| workers | {stages} |
|---|{rule}"""


def section(results: Mapping[str, Raw]) -> Iterator[str]:
    """Empty if none of its scenarios was measured."""
    traffic = list(_measured(results, SeveralWorkers))
    if traffic:
        others = statistics.median(
            others_cores(run) for name in traffic for run in results[name]["runs"]
        )
        yield TRAFFIC.format(others=others)
        for name in traffic:
            yield from _traffic_rows(name, results[name])
        yield ""
    for name in _measured(results, WorkerMemory):
        yield from _memory_rows(results[name])
        yield ""


def _measured(
    results: Mapping[str, Raw], kind: type[SeveralWorkers | WorkerMemory]
) -> Iterator[str]:
    for name, scenario in SCENARIOS.items():
        if isinstance(scenario, kind) and name in results:
            yield name


# ---- traffic ----


def _traffic_rows(name: str, raw: Raw) -> Iterator[str]:
    workers = [workers_side(count) for count in raw["scenario"]["workers"]]
    for clients in CLIENTS:
        for side in (*workers, *raw["scenario"]["peers"]):
            if middle(raw, side, ("per_s",), clients=clients) is None:
                continue
            cells = [name, str(clients), _server(side), *_values(raw, side, clients)]
            yield f"| {' | '.join(cells)} |"


def _server(side: str) -> str:
    if side in PEERS:
        return PEERS[side]
    count = side.removeprefix(workers_side(0)[:-1])
    return f"{count} worker{'s' * (count != '1')}"


def _values(raw: Raw, side: str, clients: int) -> Iterator[str]:
    for keys, factor in COLUMNS.items():
        value = middle(raw, side, keys, clients=clients)
        assert value is not None
        times = ratio(clients, side, ONE, _reading(keys))(raw)
        yield _number(value * factor) + (f" ({times:.2f} ×)" if side != ONE else "")
    busy = middle(raw, side, ("cores_busy",), clients=clients)
    yield f"{busy:.2f}"


def _reading(keys: Sequence[str]) -> Callable[[Raw], float]:
    def read(run: Raw) -> float:
        value = run
        for key in keys:
            value = value[key]
        return float(value)  # type: ignore[arg-type]

    return read


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


# ---- memory ----


def _memory_rows(raw: Raw) -> Iterator[str]:
    scenario = raw["scenario"]
    yield MEMORY.format(
        **{name: scenario[name] for name in ("models", "clients", "seconds")},
        files=raw["weights_nbytes"] / 1e6,
        stages=" | ".join(STAGES.values()),
        rule="---|" * len(STAGES),
    )
    for workers in scenario["workers"]:
        cells = [_stage_mb(raw, workers_side(workers), stage) for stage in STAGES]
        yield f"| {workers} | {' | '.join(cells)} |"


def _stage_mb(raw: Raw, side: str, stage: str) -> str:
    value = middle(raw, side, ("pss_nbytes", stage, "all"))
    return "" if value is None else f"{value / 1e6:,.0f}"
