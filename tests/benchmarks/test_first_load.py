"""The section of the page about first loads."""

from typing import Any

from benchmarks.first_load import section
from benchmarks.first_load.measured import BEFORE

WALL_S = {"ours": (0.5, 0.030, 0.040, 0.050), BEFORE: (0.4, 0.010, 0.030, 0.020)}


def results() -> dict[str, Any]:
    """One cold load of each side, then three rounds."""
    runs = [
        {
            "kind": "tiny",
            "side": side,
            "repetition": number - 1,
            "cold": number == 0,
            "wall_s": wall_s,
            "cpu_s": 2 * wall_s,
            "known_s": wall_s / 10,
        }
        for side, each in WALL_S.items()
        for number, wall_s in enumerate(each)
    ]
    return {"first-load": {"scenario": {"kinds": ["tiny"], "repetitions": 3}, "runs": runs}}


def test_differences_are_those_of_one_artifact() -> None:
    assert section.added_ms(results()["first-load"], "tiny") == 20.0


def test_a_row_of_the_page() -> None:
    *_, row, end = section.section(results())
    assert row == "| tiny | 40 |  | 20 | 20 | 80 | 40 | 4.0 | 2.0 | 500 | 400 |"
    assert end == ""


def test_nothing_without_measurements() -> None:
    assert list(section.section({})) == []
