"""Figures computed from raw results, and the page with them."""

from pathlib import Path
from typing import Any

import pytest

from benchmarks import document, environment, figures, targets
from benchmarks.__main__ import needed
from benchmarks.full_models import MODELS
from benchmarks.gpu import page as gpu_page
from benchmarks.marked import filled
from benchmarks.scenarios import REGULAR, SCENARIOS

PAIRS = [(900.0, 100.0), (400.0, 100.0), (100.0, 50.0)]


def hot(pairs: list[tuple[float, float]], peer: str = "hugging-face") -> dict[str, Any]:
    runs: list[dict[str, Any]] = []
    for repetition, (ours, theirs) in enumerate(pairs):
        for side, per_s in (("ours", ours), (peer, theirs)):
            tails = {"p99": 1e3 / per_s}
            run = {"side": side, "clients": 32, "per_s": per_s, "all": tails, "load_average": 1.5}
            runs.append({"repetition": repetition, **run})
    return {"runs": runs}


def test_a_ratio_is_taken_within_a_round_and_its_median_over_the_rounds() -> None:
    assert figures.throughput(32)(hot(PAIRS)) == 4.0  # of 9, 4 and 2


def test_a_round_without_one_side_is_an_error() -> None:
    raw = hot(PAIRS)
    raw["runs"].pop()
    with pytest.raises(ValueError):
        figures.throughput(32)(raw)


@pytest.mark.parametrize(("value", "met"), [(4.9, False), (5.0, True), (5.1, True)])
def test_at_least(value: float, met: bool) -> None:
    target = targets.Target("", "", "", figures.start_s, least=5)
    assert target.met(value) is met


@pytest.mark.parametrize(("value", "met"), [(4.9, True), (5.0, True), (5.1, False)])
def test_at_most(value: float, met: bool) -> None:
    target = targets.Target("", "", "", figures.start_s, most=5)
    assert target.met(value) is met


def test_drift_is_measured_from_the_end_of_the_warm_up() -> None:
    sizes = [50, 100, *[100] * 17, 102]
    raw = {"memory": [{"anonymous_nbytes": size} for size in sizes]}
    assert figures.drift(raw) == pytest.approx(2)


def test_growth_is_counted_in_steps() -> None:
    """Two generations of 50 tokens per second: a step takes 10 ms."""
    short = {"alone": 5.0, "together": 20.0}
    run = {
        when: {"short": {"all": {"p99": p99}}, "generating": {"per_s": 2.0}}
        for when, p99 in short.items()
    }
    raw = {"scenario": {"new_tokens": 50}, "runs": [{"repetition": 0, "side": "ours", **run}]}
    assert figures.steps_waited(raw) == pytest.approx(1.5)


def test_every_target_has_a_scenario_and_one_bound() -> None:
    for target in targets.TARGETS:
        assert target.scenario in SCENARIOS
        assert (target.most is None) != (target.least is None)


def test_every_scenario_asks_for_models_that_can_be_built() -> None:
    assert set(REGULAR) <= set(SCENARIOS)
    for scenario in SCENARIOS.values():
        for model in needed(scenario):
            assert model in MODELS or model.startswith("tiny-")


def test_the_page_says_what_was_met_missed_and_not_measured(tmp_path: Path) -> None:
    environment.write(tmp_path, "hot-tiny-015", hot(PAIRS))
    page = document.page(document.read(tmp_path), tmp_path, {})
    rows = {row.split(" | ")[0].lstrip("| "): row for row in page.splitlines() if row[:1] == "|"}
    assert "| 4 × | **no** |" in rows["tiny, 32 clients"]
    assert "not measured" in rows["start"]
    assert "| 400 | 100 |" in rows["hot-tiny-015"]
    assert "1.5 to 1.5" in page


def test_a_row_is_beside_the_peer_of_its_scenario(tmp_path: Path) -> None:
    environment.write(tmp_path, "hot-tiny-015-triton", hot(PAIRS, "triton"))
    rows = document.page(document.read(tmp_path), tmp_path, {}).splitlines()
    (target,) = [row for row in rows if row.startswith("| tiny, compared with Triton |")]
    (steady,) = [row for row in rows if row.startswith("| hot-tiny-015-triton |")]
    assert "| 4 × | yes |" in target
    assert "| 400 | 100 |" in steady


def test_the_notes_are_part_of_the_page(tmp_path: Path) -> None:
    environment.write(tmp_path, "hot-tiny-015", hot([(100.0, 10.0)]))
    (tmp_path / "notes.md").write_text("## Why\n\nBecause.\n")
    page = document.page(document.read(tmp_path), tmp_path, {})
    assert "## Why\n\nBecause." in page
    assert "| 10 × | yes |" in page


def test_what_many_models_take_is_beside_the_peer(tmp_path: Path) -> None:
    raw = hot(PAIRS) | {
        "scenario": {"peer": "hugging-face"},
        "load_s": {"ours": [0.1, 0.2], "hugging-face": [2.0, 4.5]},
        "pss_nbytes": {"ours": 450_000_000, "hugging-face": 17_060_000_000},
        "processes": {"ours": 3, "hugging-face": 103},
    }
    environment.write(tmp_path, "zipf-50", raw)
    rows = document.page(document.read(tmp_path), tmp_path, {}).splitlines()
    assert "| zipf-50 | 0.3 | 6.5 | 0.45 | 17.06 | 3 | 103 |" in rows


def test_readme_and_page_say_what_was_stored() -> None:
    """The committed files are those that `make bench-docs` writes."""
    directory = document.ROOT / "benchmarks/results/2-core-epyc_2026-11"
    results = document.read(directory)
    text = document.README.read_text(encoding="utf-8")
    days = gpu_page.read(document.RESULTS)
    assert document.readme(text, results, days) == text
    written = document.page(results, directory.relative_to(document.ROOT), days)
    assert document.PAGE.read_text(encoding="utf-8") == written


def test_a_page_without_the_place_is_refused() -> None:
    with pytest.raises(ValueError, match="lost its place"):
        filled("<!-- one -->\n", "one", [])
