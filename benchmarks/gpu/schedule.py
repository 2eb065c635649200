"""Runs sections one after the other within a time limit; a failure of one does not stop the others."""

import contextlib
import json
import math
import signal
import time
import traceback
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from types import FrameType
from typing import Any

from benchmarks.gpu.day import Day
from benchmarks.gpu.day_section import Found, NotRun, Section

LEAST_S = 10.0  # with less than this left, no section is begun
DEAD_S = 30.0  # budget of sections that need the container, once it has failed in the preflight
CLEANUP_S = 30.0  # from the end of a budget until the section is interrupted again
ENVIRONMENT, PREFLIGHT = "environment", "preflight"
NOT_RUN = "not run"
RAN, FAILED, NO_TIME, CUT = "ran", "failed", "not run: time", "cut: its time was over"
ReportCallback = Callable[[str, dict[str, Any]], None]


class OutOfTime(BaseException):
    """The section's time is over. A BaseException, so that `except Exception` does not catch it."""


def run(
    day: Day, sections: Iterable[Section], ends: float, report: ReportCallback
) -> dict[str, Any]:
    """Run the sections. Returns the record of each, by name.

    `ends`: time limit, a time of `time.monotonic()`. `report` is called after each section.
    """
    records: dict[str, Any] = {}
    for section in sections:
        budget = min(section.seconds, ends - time.monotonic())
        if section.serves and records.get(PREFLIGHT, {}).get("state", RAN) != RAN:
            budget = min(budget, DEAD_S)
        if (reason := _nothing_to_measure(records)) is not None:
            records[section.name] = _record(section, reason, {})
        elif budget < LEAST_S:
            records[section.name] = _record(section, NO_TIME, {})
        else:
            records[section.name] = run_section(section, day, budget)
        report(section.name, records)
    return records


def _nothing_to_measure(records: dict[str, Any]) -> str | None:
    """The state of all sections if the machine does not have the device."""
    state = str(records.get(ENVIRONMENT, {}).get("state", ""))
    return state if state.startswith(NOT_RUN) else None


def run_section(section: Section, day: Day, budget: float) -> dict[str, Any]:
    found: Found = {}
    began = time.monotonic()
    state, details = RAN, {}
    try:
        with limited(budget):
            section.measure(day, found)
    except NotRun as reason:
        state = f"{NOT_RUN}: {reason}"
    except OutOfTime as error:
        state, details = CUT, _details(error)
    except (Exception, SystemExit) as error:  # noqa: BLE001  the other sections must go on
        state, details = FAILED, _details(error)
    return _record(section, state, found) | details | {"seconds": _since(began)}


def _record(section: Section, state: str, found: Found) -> dict[str, Any]:
    beside = [prediction.beside(found) for prediction in section.predictions]
    return {"state": state, "predictions": beside, "found": found}


def _details(error: BaseException) -> dict[str, Any]:
    return {
        "error": f"{type(error).__name__}: {error}"[:2000],
        "where": traceback.format_exc(limit=-4)[-3000:],
        "server_log": "\n".join(getattr(error, "__notes__", ())).splitlines(),
    }


def _since(began: float) -> float:
    return round(time.monotonic() - began, 1)


@contextlib.contextmanager
def limited(seconds: float) -> Iterator[None]:
    """Raise OutOfTime in the block after a time limit. For the main thread only."""

    def interrupt(number: int, frame: FrameType | None) -> None:
        raise OutOfTime(f"{seconds:.0f} s were over")

    before = signal.signal(signal.SIGALRM, interrupt)
    signal.setitimer(signal.ITIMER_REAL, seconds, CLEANUP_S)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


# ---- the file ----


def write(path: Path, document: dict[str, Any]) -> None:
    """Write the file atomically."""
    new = path.with_suffix(".new")
    new.write_text(json.dumps(finite(document), indent=1, default=str) + "\n", encoding="utf-8")
    new.replace(path)


def finite(value: Any) -> Any:
    """Replace NaN and infinities, which JSON does not have, by None."""
    if isinstance(value, dict):
        return {str(key): finite(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [finite(each) for each in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
