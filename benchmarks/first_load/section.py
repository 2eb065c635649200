"""The section of docs/performance.md about first loads."""

import statistics
from collections.abc import Iterator, Mapping

from benchmarks.figures import OURS, Raw
from benchmarks.first_load.measured import BEFORE, UNCHECKED

HEADING = """## First loads

Milliseconds, medians over {repetitions} artifacts with different content. The containers run beside each
other and load each artifact in turn. "Unchecked": with `MME_QUARANTINE=false`; "before": a version without
any checks of artifacts; "known": the second load of the same content; "cold": the first load of a container,
for which libraries are imported. Kinds that end in `-tuned` have the structure and the tokenizer of a model
that was loaded before, and labels of their own.

| kind | first | unchecked | before | first − before | CPU: first | before | known | before | cold | before |
|---|---|---|---|---|---|---|---|---|---|---|"""


def section(results: Mapping[str, Raw]) -> Iterator[str]:
    """Empty if the scenario was not measured."""
    raw = results.get("first-load")
    if raw is None:
        return
    yield HEADING.format(repetitions=raw["scenario"]["repetitions"])
    for kind in raw["scenario"]["kinds"]:
        yield f"| {' | '.join([kind, *_cells(raw, kind)])} |"
    yield ""


def _cells(raw: Raw, kind: str) -> Iterator[str]:
    first = [middle(raw, kind, side, "wall_s") for side in (OURS, UNCHECKED, BEFORE)]
    yield from map(_shown, first)
    yield _shown(added_ms(raw, kind))
    for figure, cold in (("cpu_s", False), ("known_s", False), ("wall_s", True)):
        for side in (OURS, BEFORE):
            yield _shown(middle(raw, kind, side, figure, cold=cold))


def added_ms(raw: Raw, kind: str) -> float | None:
    """The median of the differences to the version before, of the same artifacts."""
    ours, before = (_values(raw, kind, side, "wall_s", cold=False) for side in (OURS, BEFORE))
    if not before:
        return None
    return statistics.median(ours[each] - before[each] for each in ours)


def middle(raw: Raw, kind: str, side: str, figure: str, *, cold: bool = False) -> float | None:
    """Milliseconds; None for a side that was not measured."""
    values = _values(raw, kind, side, figure, cold=cold)
    return statistics.median(values.values()) if values else None


def _values(raw: Raw, kind: str, side: str, figure: str, *, cold: bool) -> dict[int, float]:
    """Milliseconds by repetition."""
    return {
        run["repetition"]: run[figure] * 1e3
        for run in raw["runs"]
        if (run["kind"], run["side"], run["cold"]) == (kind, side, cold)
    }


def _shown(value: float | None) -> str:
    return "" if value is None else f"{value:.0f}" if abs(value) >= 10 else f"{value:.1f}"
