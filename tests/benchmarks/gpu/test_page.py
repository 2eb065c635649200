"""The page with predictions and results, from invented results."""

import json
from pathlib import Path
from typing import Any

import pytest

from benchmarks import document, environment
from benchmarks.gpu import page, schedule
from benchmarks.gpu.day_section import Prediction, Section
from benchmarks.gpu.sections import ALL
from benchmarks.gpu.wording import TEXTS, plain

CARD = {"name": "NVIDIA Example", "driver_version": "580.01"}
RATIO = Prediction("return over copy", ("b16", "ratio"), 0.1, 0.25, "why", "×", "G1", least=0.9)
LOST = Prediction("workers lost", ("lost",), 0, 0, "why", most=0)


def record(found: dict[str, Any], state: str = schedule.RAN) -> dict[str, Any]:
    beside = [each.beside(found) for each in (RATIO, LOST)]
    return {"state": state, "found": found, "predictions": beside}


def day(record_of_swap: dict[str, Any], **changes: Any) -> dict[str, Any]:
    facts = {"driver": CARD, "commit": "abc1234 A commit"}
    start = {"state": schedule.RAN, "found": facts, "predictions": []}
    whole = {"device": "cuda", "small": False, "began": "2027-02-03T10:00:00+0000"}
    return {**whole, "sections": {"environment": start, "swap": record_of_swap}, **changes}


def stored(directory: Path, content: dict[str, Any]) -> page.Days:
    (directory / "a-card").mkdir()
    (directory / "a-card" / page.FILE).write_text(json.dumps(content))
    return page.read(directory)


def lines(days: page.Days) -> list[str]:
    return list(page.section(days))


def test_without_a_day_the_page_says_so_and_lists_every_prediction() -> None:
    text = "\n".join(lines({}))
    assert "No line of this project has been measured on a real GPU yet" in text
    for section in ALL:
        for prediction in section.predictions:
            assert f"| {section.name} | {plain(section.name, prediction.what)} |" in text
    assert "outcome" not in text


def test_a_day_names_the_card_its_driver_and_the_date(tmp_path: Path) -> None:
    text = "\n".join(lines(stored(tmp_path, day(record({"b16": {"ratio": 0.2}, "lost": 0})))))
    assert "NVIDIA Example, driver 580.01, 2027-02-03, commit abc1234 A commit" in text
    assert "a-card/gpu_day.json" in text
    assert page.UNMEASURED not in text


def test_an_outcome_stands_beside_prediction_and_target(tmp_path: Path) -> None:
    rows = lines(stored(tmp_path, day(record({"b16": {"ratio": 0.95}, "lost": 0}))))
    assert "| swap | return over copy | 0.1 to 0.25 × | 0.95 × | no | ≥ 0.9 × (G1) | yes |" in rows
    assert "| swap | workers lost | 0 | 0 | yes | ≤ 0 | yes |" in rows


def test_what_was_missed_or_has_no_figure_is_said(tmp_path: Path) -> None:
    rows = lines(stored(tmp_path, day(record({"b16": {"ratio": 0.2}}))))
    assert (
        "| swap | return over copy | 0.1 to 0.25 × | 0.2 × | yes | ≥ 0.9 × (G1) | **no** |" in rows
    )
    assert "| swap | workers lost | 0 | no figure | – | ≤ 0 | – |" in rows


def test_what_was_not_run_is_listed(tmp_path: Path) -> None:
    text = "\n".join(lines(stored(tmp_path, day(record({}, schedule.NO_TIME)))))
    assert "| 0.1 to 0.25 × | not run: time | – |" in text
    assert "Not measured, or not completely: swap (not run: time)." in text


@pytest.mark.parametrize(
    "changes",
    [
        {"device": "cpu"},
        {"small": True},
        {"sections": {}},
        {"sections": {"environment": {"found": {"driver": None}}}},
    ],
)
def test_a_dry_run_is_refused(changes: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises(page.NoGpu, match="a-card"):
        stored(tmp_path, day(record({}), **changes))


def test_the_readme_has_the_named_targets_or_says_that_there_is_none(tmp_path: Path) -> None:
    assert list(page.short({})) == [page.README_UNMEASURED]
    rows = list(page.short(stored(tmp_path, day(record({"b16": {"ratio": 0.2}, "lost": 0})))))
    assert "| return over copy | ≥ 0.9 × (G1) | 0.2 × |" in rows
    assert not [row for row in rows if "workers lost" in row]


def test_the_performance_page_ends_with_the_days(tmp_path: Path) -> None:
    environment.write(tmp_path, "hot-tiny-015", {"runs": []})
    directory = tmp_path / "results"
    directory.mkdir()
    days = stored(directory, day(record({"b16": {"ratio": 0.2}})))
    (tmp_path / "hot-tiny-015.json").unlink()
    written = document.page(document.read(tmp_path), tmp_path, days)
    assert written.index("## Targets") < written.index("## On a GPU") < written.index("0.2 ×")


def test_the_places_in_the_readme_are_filled(tmp_path: Path) -> None:
    text = document.README.read_text(encoding="utf-8")
    results = document.read(document.RESULTS / "2-core-epyc_2026-11")
    days = stored(tmp_path, day(record({"b16": {"ratio": 0.2}})))
    filled = document.readme(text, results, days)
    assert "NVIDIA Example" in filled
    assert page.README_UNMEASURED not in filled


def test_the_terminal_gets_every_outcome() -> None:
    rows = list(page.outcomes(day(record({"b16": {"ratio": 0.2}, "lost": 0}))))
    assert rows[0] == "return over copy: 0.2 × (predicted 0.1 to 0.25 ×, target ≥ 0.9 × (G1))"
    assert rows[1] == "workers lost: 0 (predicted 0, target ≤ 0)"


def test_predictions_are_ranges_with_a_reason_and_names_are_unique() -> None:
    names = [section.name for section in ALL]
    assert len(set(names)) == len(names)
    for section in ALL:
        assert section.seconds > schedule.LEAST_S
        for prediction in section.predictions:
            assert prediction.low <= prediction.high
            assert prediction.because
            assert prediction.path


def test_every_section_but_those_that_only_state_facts_predicts_something() -> None:
    assert [section.name for section in ALL if not section.predictions] == ["environment"]
    assert isinstance(ALL[0], Section)


# ---- several days of one card ----


def two_days(directory: Path) -> page.Days:
    stored(directory, day(record({"b16": {"ratio": 0.2}, "lost": 0})))
    later = day(record({"b16": {"ratio": 0.5}}), began="2027-02-04T10:00:00+0000")
    later["sections"]["environment"]["found"] = {"driver": CARD, "commit": "def5678"}
    (directory / "0-later").mkdir()
    (directory / "0-later" / page.FILE).write_text(json.dumps(later))
    return page.read(directory)


def test_a_later_day_of_the_same_card_gives_the_outcome_and_the_earlier_stands_beside(
    tmp_path: Path,
) -> None:
    text = "\n".join(lines(two_days(tmp_path)))
    assert "0.5 × (before: 0.2)" in text
    assert text.index("commit abc1234 A commit") < text.index("commit def5678")
    assert text.count("| swap | return over copy |") == 1


def test_a_section_that_only_the_first_day_ran_keeps_its_outcome(tmp_path: Path) -> None:
    days = two_days(tmp_path)
    days["0-later"]["sections"]["swap"] = record({}, schedule.NO_TIME)
    assert "| swap | workers lost | 0 | 0 | yes | ≤ 0 | yes |" in lines(days)


def test_the_readme_has_one_table_for_a_card(tmp_path: Path) -> None:
    rows = list(page.short(two_days(tmp_path)))
    assert "| return over copy | ≥ 0.9 × (G1) | 0.5 × (before: 0.2) |" in rows
    assert len([row for row in rows if row.startswith("| | target")]) == 1


def test_every_plainer_text_belongs_to_a_prediction() -> None:
    known = {(section.name, each.what) for section in ALL for each in section.predictions}
    assert TEXTS.keys() <= known
