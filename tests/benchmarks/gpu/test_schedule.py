"""A section that fails, hangs or is not run does not affect others; its results up to then are kept."""

import json
import math
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from benchmarks.gpu import schedule
from benchmarks.gpu.day import Day, tail
from benchmarks.gpu.day_section import Found, NotRun, Prediction, Section, number_at
from benchmarks.stacks import ROOT

FAR = 1e9


def section(name: str, measure: Any, seconds: float = 60.0, **more: Any) -> Section:
    return Section(name, seconds, measure, **more)


@pytest.fixture
def day(tmp_path: Path) -> Day:
    return Day("cpu", True, tmp_path, tmp_path / "models")


def run(day: Day, *sections: Section, ends: float = FAR) -> dict[str, Any]:
    return schedule.run(day, sections, ends, lambda name, records: None)


def fine(day: Day, found: Found) -> None:
    found["value"] = 3


def broken(day: Day, found: Found) -> None:
    found["until"] = 1
    raise KeyError("nothing here")


def hanging(day: Day, found: Found) -> None:
    found["until"] = 1
    try:
        threading.Event().wait()
    except Exception:  # noqa: BLE001  what a section handles is no end of its time
        pytest.fail("the end of the time was taken for an error")


def idle(day: Day, found: Found) -> None:
    raise NotRun("no such setting")


def test_after_a_failure_the_others_go_on(day: Day) -> None:
    records = run(day, section("a", broken), section("b", fine))
    assert records["a"]["state"] == schedule.FAILED
    assert records["a"]["error"] == "KeyError: 'nothing here'"
    assert "broken" in records["a"]["where"]
    assert records["a"]["found"] == {"until": 1}
    assert records["b"]["state"] == schedule.RAN
    assert records["b"]["found"] == {"value": 3}


def test_a_section_is_cut_at_the_end_of_its_budget(day: Day) -> None:
    began = time.monotonic()
    record = schedule.run_section(section("a", hanging), day, 0.2)
    assert record["state"] == schedule.CUT
    assert record["found"] == {"until": 1}
    assert time.monotonic() - began < 10


def test_after_a_cut_no_alarm_is_left() -> None:
    before = signal.getsignal(signal.SIGALRM)
    with pytest.raises(schedule.OutOfTime), schedule.limited(0.05):
        threading.Event().wait()
    assert signal.getitimer(signal.ITIMER_REAL) == (0, 0)
    assert signal.getsignal(signal.SIGALRM) is before


def test_what_the_time_does_not_allow_is_listed(day: Day) -> None:
    records = run(day, section("a", fine), section("b", fine), ends=time.monotonic() + 1)
    assert [record["state"] for record in records.values()] == [schedule.NO_TIME] * 2


def test_a_reason_not_to_run_is_no_failure(day: Day) -> None:
    assert run(day, section("a", idle))["a"]["state"] == "not run: no such setting"


def test_without_the_device_nothing_else_is_tried(day: Day) -> None:
    records = run(day, section(schedule.ENVIRONMENT, idle), section("b", fine))
    assert records["b"]["state"] == "not run: no such setting"
    assert records["b"]["found"] == {}


def test_after_a_failed_preflight_sections_that_serve_have_little_time(day: Day) -> None:
    budgets: dict[str, float] = {}

    def noting(name: str) -> Any:
        def measure(day: Day, found: Found) -> None:
            budgets[name] = signal.getitimer(signal.ITIMER_REAL)[0]

        return measure

    run(
        day,
        section(schedule.PREFLIGHT, broken),
        section("serves", noting("serves")),
        section("does not", noting("does not"), serves=False),
    )
    assert budgets["serves"] <= schedule.DEAD_S < budgets["does not"]


def test_the_outcome_stands_beside_the_prediction(day: Day) -> None:
    prediction = Prediction("what", ("value",), 1, 2, "why", "ms", "G9", most=5)
    (beside,) = run(day, section("a", fine, predictions=(prediction,)))["a"]["predictions"]
    assert beside["predicted"] == [1, 2]
    assert beside["outcome"] == 3
    assert beside["target"] == {"name": "G9", "most": 5, "least": None}


@pytest.mark.parametrize(
    ("found", "number"),
    [
        ({"a": {"b": 2}}, 2.0),
        ({"a": {"b": None}}, None),
        ({"a": {"b": "2"}}, None),
        ({"a": {"b": math.nan}}, None),
        ({"a": 1}, None),
        ({}, None),
    ],
)
def test_an_outcome_is_a_number_or_missing(found: Found, number: float | None) -> None:
    assert number_at(found, ("a", "b")) == number


def test_the_file_is_json_whatever_was_measured(tmp_path: Path) -> None:
    file = tmp_path / "gpu_day.json"
    document: dict[Any, Any] = {"a": [math.nan, (1, math.inf)], 5: Path("x"), "b": {"c": 1.5}}
    schedule.write(file, document)
    assert json.loads(file.read_text()) == {"a": [None, [1, None]], "5": "x", "b": {"c": 1.5}}
    assert list(tmp_path.iterdir()) == [file]


def test_a_server_that_does_not_start_leaves_its_last_lines(day: Day) -> None:
    """With a setting that the container refuses."""

    def serve(day: Day, found: Found) -> None:
        with day.serving("refused", MME_NO_SUCH_SETTING="1"):
            pytest.fail("it started")

    record = schedule.run_section(section("a", serve), day, 60)
    assert record["state"] == schedule.FAILED
    assert "MME_NO_SUCH_SETTING" in "\n".join(record["server_log"])


def test_the_end_of_a_log_is_bounded(tmp_path: Path) -> None:
    log = tmp_path / "log"
    assert tail(log) == ""
    log.write_bytes(b"first\n" + b"x" * 10_000 + b"\xff\nlast\n")
    assert tail(log).endswith("last")
    assert len(tail(log)) <= 4000


def test_an_unknown_section_is_refused(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "benchmarks.gpu", "--only", "nonsense"]
    more = ["--output", str(tmp_path), "--device", "cpu"]
    done = subprocess.run([*command, *more], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.returncode == 1
    assert "no section nonsense" in done.stderr


def test_a_dry_run_of_two_sections_writes_the_whole_file(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "benchmarks.gpu", "--device", "cpu", "--small"]
    more = ["--only", "environment,preflight", "--output", str(tmp_path)]
    done = subprocess.run([*command, *more], cwd=ROOT, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stdout + done.stderr
    day = json.loads((tmp_path / "gpu_day.json").read_text())
    assert (day["device"], day["small"]) == ("cpu", True)
    assert list(day["sections"]) == ["environment", "preflight"]
    preflight = day["sections"]["preflight"]
    assert preflight["state"] == schedule.RAN
    assert preflight["found"]["compared"] == 8
    assert preflight["found"]["wrong"] == 0
    assert preflight["predictions"][0]["outcome"] == 0
