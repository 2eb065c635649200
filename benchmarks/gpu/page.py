"""The GPU parts of the docs: predictions and results, from the JSON of `make gpu-day`."""

import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from benchmarks.gpu.schedule import RAN
from benchmarks.gpu.sections import ALL
from benchmarks.gpu.wording import plain

FILE = "gpu_day.json"
Days = Mapping[str, Mapping[str, Any]]  # what `make gpu-day` wrote, by the directory it is in
UNMEASURED = (
    "**No line of this project has been measured on a real GPU yet.** `make gpu-day` measures all rows of "
    "this table on a machine with a GPU. It has been run completely on a CPU with small"
    " models, and on a fake "
    "CUDA runtime; this shows that it works, but nothing about speed. The predictions:"
)
NO_SECTION = (
    "No section measures this target yet: requests/s of five models, divided by those with one process each,"
    " ≥ 8 ×."
)
README_UNMEASURED = (
    "No line of this project has been measured on a real GPU yet. `make gpu-day` does so"
    " and compares the results "
    "with [predictions](docs/performance.md#on-a-gpu)."
)


class NoGpu(ValueError):
    """The result was not measured on a real GPU, so the page must not show it as one."""


def read(results: Path) -> dict[str, Any]:
    """Raises NoGpu for a dry run: one on the CPU, with small models, or without NVIDIA's driver."""
    days = {
        path.parent.name: json.loads(path.read_text(encoding="utf-8"))
        for path in sorted(results.glob(f"*/{FILE}"))
    }
    for name, day in days.items():
        if day["device"] != "cuda" or day["small"] or not _driver(day).get("name"):
            raise NoGpu(f"{name}/{FILE} was not measured on a GPU that NVIDIA's driver names")
    return days


def _driver(day: Mapping[str, Any]) -> dict[str, str]:
    found = day["sections"].get("environment", {}).get("found", {})
    return found.get("driver") or {}


# ---- docs/performance.md ----


def section(days: Days) -> Iterator[str]:
    yield "## On a GPU\n"
    if not days:
        yield f"{UNMEASURED}\n"
        yield from _predicted()
    for of_card in _by_card(days):
        yield from _measured(of_card)
    yield f"\n{NO_SECTION}"


def _predicted() -> Iterator[str]:
    yield "| section | what | predicted | target | because |"
    yield "|---|---|---|---|---|"
    for each in ALL:
        for prediction in each.predictions:
            row = prediction.beside({})
            what = plain(each.name, row["what"])
            cells = (each.name, what, _range(row), _target(row), row["because"])
            yield _line(cells)


def _measured(days: Days) -> Iterator[str]:
    yield "Predictions were written before the first run of their section."
    for name, day in days.items():
        driver, commit = _driver(day), _found(day).get("commit") or "unknown"
        yield (
            f"{driver['name']}, driver {driver.get('driver_version', 'unknown')}, {day['began'][:10]}, "
            f"commit {commit} ([raw result](../benchmarks/results/{name}/{FILE}))."
        )
    yield "\n| section | what | predicted | outcome | as predicted | target | met |"
    yield "|---|---|---|---|---|---|---|"
    records = merged(days)
    for title, record in records.items():
        for row in record["predictions"]:
            what = plain(title, row["what"])
            yield _line((title, what, *_cells(row, record["state"])))
    yield ""
    yield from _not_run(records)


def _by_card(days: Days) -> Iterator[Days]:
    """The GPU days by card, the earliest first."""
    cards: dict[str, dict[str, Mapping[str, Any]]] = {}
    for name, day in sorted(days.items(), key=lambda each: str(each[1]["began"])):
        cards.setdefault(_driver(day)["name"], {})[name] = day
    yield from cards.values()


def merged(days: Days) -> dict[str, Any]:
    """The records of one card, by section: of the last day that ran it, or else of the last day.

    A row has `before`: the outcomes of earlier days.
    """
    records: dict[str, Any] = {}
    for day in days.values():
        for title, record in day["sections"].items():
            earlier = records.get(title)
            if earlier is None or any(row["outcome"] is not None for row in record["predictions"]):
                records[title] = record | {"predictions": _beside(record, earlier)}
    return records


def _beside(record: Mapping[str, Any], earlier: Mapping[str, Any] | None) -> list[dict[str, Any]]:
    before = {row["what"]: _outcomes(row) for row in (earlier or {}).get("predictions", ())}
    return [row | {"before": before.get(row["what"], [])} for row in record["predictions"]]


def _outcomes(row: Mapping[str, Any]) -> list[float]:
    last = [] if row["outcome"] is None else [row["outcome"]]
    return [*row["before"], *last]


def _found(day: Mapping[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = day["sections"].get("environment", {}).get("found", {})
    return found


def _cells(row: Mapping[str, Any], state: str) -> tuple[str, ...]:
    if row["outcome"] is None:
        missing = "no figure" if state == RAN else state
        return _range(row), missing, "–", _target(row), "–"
    low, high = row["predicted"]
    as_predicted = "yes" if low <= row["outcome"] <= high else "no"
    outcome = _outcome(row)
    return _range(row), outcome, as_predicted, _target(row), _met(row)


def _not_run(records: Mapping[str, Any]) -> Iterator[str]:
    states = {name: record["state"] for name, record in records.items()}
    if missing := [f"{name} ({state})" for name, state in states.items() if state != RAN]:
        yield f"Not measured, or not completely: {', '.join(missing)}.\n"


# ---- README.md ----


def short(days: Days) -> Iterator[str]:
    """A short text with the targets that have a name."""
    if not days:
        yield README_UNMEASURED
    for of_card in _by_card(days):
        last = list(of_card.values())[-1]
        day = f"{_driver(last)['name']}, {last['began'][:10]}"
        yield f"Measured: {day} ([all results](docs/performance.md#on-a-gpu)):\n"
        yield "| | target | measured |"
        yield "|---|---|---|"
        for title, record in merged(of_card).items():
            for row in record["predictions"]:
                if row["target"]["name"]:
                    yield _line((plain(title, row["what"]), _target(row), _outcome(row)))


# ---- the terminal ----


def outcomes(day: Mapping[str, Any]) -> Iterator[str]:
    for row in rows(day):
        target = f", target {_target(row)}" if _target(row) else ""
        yield f"{row['what']}: {_outcome(row)} (predicted {_range(row)}{target})"


def rows(day: Mapping[str, Any]) -> Iterable[dict[str, Any]]:
    for record in day["sections"].values():
        yield from record["predictions"]


# ---- cells ----


def _line(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _outcome(row: Mapping[str, Any]) -> str:
    if row["outcome"] is None:
        return "no figure"
    before = ", ".join(number(each) for each in row.get("before", ()))
    return _amount(row["outcome"], row["unit"]) + (f" (before: {before})" if before else "")


def _range(row: Mapping[str, Any]) -> str:
    low, high = row["predicted"]
    text = number(low) if low == high else f"{number(low)} to {number(high)}"
    return f"{text} {row['unit']}".strip()


def _target(row: Mapping[str, Any]) -> str:
    name, most, least = (row["target"][key] for key in ("name", "most", "least"))
    bounds = [("", most)] if most == least else [("≥", least), ("≤", most)]
    text = " and ".join(
        f"{sign} {number(bound)}".strip() for sign, bound in bounds if bound is not None
    )
    return f"{text} {row['unit']}".strip() + (f" ({name})" if name else "") if text else ""


def _met(row: Mapping[str, Any]) -> str:
    most, least = row["target"]["most"], row["target"]["least"]
    if most is None and least is None:
        return "–"
    outcome = row["outcome"]
    fine = (most is None or outcome <= most) and (least is None or outcome >= least)
    return "yes" if fine else "**no**"


def _amount(value: float, unit: str) -> str:
    return f"{number(value)} {unit}".strip()


def number(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 100 or value == int(value) else f"{value:.3g}"
