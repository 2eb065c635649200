"""Several workers: the figures, the section of the page, and the memory of a real container."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from benchmarks import cores, cores_table, document, figures, steady
from benchmarks.figures import PEER, TRITON
from benchmarks.scenarios import WorkerMemory, tiny, workers_side

ONE, TWO = workers_side(1), workers_side(2)
PER_S = {
    ONE: (100.0, 200.0, 400.0),
    TWO: (150.0, 320.0, 400.0),
    PEER: (50.0,) * 3,
    TRITON: (160.0,) * 3,
}


def run(repetition: int, side: str, clients: int, per_s: float) -> dict[str, Any]:
    return {
        "repetition": repetition,
        "side": side,
        "clients": clients,
        "per_s": per_s,
        "all": {"p99": 1e4 / per_s},
        "cpu_s_per_request": 1 / per_s,
        "cores_busy": per_s / 200,
        "others_cpu_s": 0.6,
        "lasted_s": 3.0,
    }


def traffic_results() -> dict[str, Any]:
    """Three rounds; with 32 clients everything is twice as fast."""
    runs = [
        run(repetition, side, clients, per_s * factor)
        for side, each in PER_S.items()
        for repetition, per_s in enumerate(each)
        for clients, factor in ((8, 1), (32, 2))
    ]
    return {"scenario": {"workers": [1, 2], "peers": [PEER, TRITON]}, "runs": runs}


def memory_results() -> dict[str, Any]:
    def stages(total: float) -> dict[str, dict[str, float]]:
        return {stage: {"all": total} for stage in ("started", "loaded", "asked", "served")}

    sizes = {ONE: (500e6, 510e6), TWO: (600e6, 650e6)}
    runs = [
        {"repetition": repetition, "side": side, "pss_nbytes": stages(total)}
        for side, each in sizes.items()
        for repetition, total in enumerate(each)
    ]
    scenario = {"models": 200, "workers": [1, 2], "clients": 32, "seconds": 15.0}
    return {"scenario": scenario, "weights_nbytes": 3.5e9, "runs": runs}


# ---- figures ----


def test_throughput_of_two_workers_is_divided_by_that_of_one_in_the_same_round() -> None:
    assert figures.throughput(32, ONE, TWO)(traffic_results()) == 1.5  # of 1.5, 1.6 and 1


def test_the_lowest_ratio_of_several_numbers_of_clients_counts() -> None:
    raw = traffic_results()
    raw["runs"] = [each | {"per_s": 80.0} if _is(each, TRITON, 8) else each for each in raw["runs"]]
    assert figures.least_throughput((8, 32), TRITON, TWO)(raw) == 2.0
    assert figures.least_throughput((8,), TRITON, TWO)(raw) == 4.0


def _is(each: dict[str, Any], side: str, clients: int) -> bool:
    return bool(each["side"] == side and each["clients"] == clients)


def test_busy_cores_are_the_median_over_the_rounds() -> None:
    assert figures.cores_busy(32, TWO)(traffic_results()) == pytest.approx(3.2)


def test_memory_that_a_worker_adds_is_the_median_of_the_differences() -> None:
    assert figures.added_mb("served", TWO, ONE)(memory_results()) == pytest.approx(120)


# ---- windows ----


def test_every_second_round_is_in_reverse_order() -> None:
    windows = [lambda side=side: {"side": side, "per_s": 1.0} for side in "abc"]
    runs = steady.alternating(windows, 3)
    assert [each["side"] for each in runs] == list("abccbaabc")
    assert [each["repetition"] for each in runs] == [0, 0, 0, 1, 1, 1, 2, 2, 2]


@pytest.mark.parametrize(
    ("disturbed", "kept"),
    [([0.1, 9, 9], 0), ([0.9, 0.2, 9], 1), ([0.9, 0.5, 0.7], 1)],
)
def test_a_disturbed_window_is_repeated_and_the_least_disturbed_counts(
    disturbed: list[float], kept: int
) -> None:
    tries = iter(enumerate(disturbed))

    def window() -> dict[str, Any]:
        number, others = next(tries)
        return {"number": number, "per_s": 1.0, "others_cpu_s": 2 * others, "lasted_s": 2.0}

    (only,) = steady.alternating([window], 1)
    assert only["number"] == kept
    assert only["tries"] == 3 - len(list(tries))


# ---- the page ----


def test_the_section_has_ratios_to_one_worker() -> None:
    rows = list(cores_table.section({"cores": traffic_results()}))
    assert "| cores | 8 | 1 worker | 200 | 50 | 5 | 1.00 |" in rows
    assert "| cores | 8 | 2 workers | 320 (1.50 ×) | 31.2 (0.67 ×) | 3.12 (0.67 ×) | 1.60 |" in rows
    assert [row.split(" | ")[2] for row in rows if row.startswith("| cores | 32")] == [
        "1 worker",
        "2 workers",
        "Hugging Face toolkit",
        "Triton",
    ]
    assert "used 0.20 cores" in rows[0]


def test_the_section_has_the_memory_of_every_stage() -> None:
    rows = list(cores_table.section({"cores-memory": memory_results()}))
    assert "whose files have 3,500 MB" in rows[0]
    assert rows[1:] == ["| 1 | 505 | 505 | 505 | 505 |", "| 2 | 625 | 625 | 625 | 625 |", ""]


def test_without_these_results_the_page_has_no_such_section() -> None:
    assert list(cores_table.section({"zipf-20": traffic_results()})) == []


def test_the_targets_are_read_from_these_results() -> None:
    rows = list(
        document.targets_table({"cores": traffic_results(), "cores-memory": memory_results()})
    )
    (memory,) = [row for row in rows if row.startswith("| memory of a second worker |")]
    (speed,) = [row for row in rows if row.startswith("| two workers, Zipf over 20 tiny |")]
    assert "| ≤ 120 MB | 120 MB | yes |" in memory
    assert "| ≥ 1.45 × | 1.5 × | yes |" in speed


# ---- a real container ----


def test_memory_is_read_after_every_stage(tmp_path: Path) -> None:
    build = [sys.executable, "-m", "benchmarks.full_models", str(tmp_path), *tiny(2)]
    subprocess.run(build, check=True)
    scenario = WorkerMemory(2, workers=(1,), clients=2, seconds=1.0, repetitions=1)
    result = cores.memory(scenario, tmp_path)
    (only,) = result["runs"]
    assert only["side"] == ONE
    assert list(only["pss_nbytes"]) == list(cores_table.STAGES)
    for kinds in only["pss_nbytes"].values():
        assert kinds["all"] > kinds["anonymous"] > 20_000_000
        assert kinds["all"] == pytest.approx(
            sum(kinds[kind] for kind in ("file", "anonymous", "shared")), rel=0.01
        )
    assert result["weights_nbytes"] > 2 * 17_000_000
