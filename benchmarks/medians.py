"""Medians over the runs of one scenario, for tables and charts."""

import statistics
from typing import Any

from benchmarks.figures import Raw


def plain(raw: Raw) -> float | None:
    """Texts per second of plain PyTorch in batches of 32, with as many threads as serve it best."""
    figures = [middle(raw, "bare", ("per_s",), batch=32, threads=count) for count in (1, 2)]
    return max((each for each in figures if each is not None), default=None)


def middle(raw: Raw, side: str, keys: tuple[str, ...], **wanted: Any) -> float | None:
    """The median over the runs of a side with these settings."""
    wanted["side"] = side
    runs = [run for run in raw["runs"] if all(run.get(key) == wanted[key] for key in wanted)]
    values = []
    for run in runs:
        value: Any = run
        for key in keys:
            value = value[key]
        values.append(float(value))
    return statistics.median(values) if values else None
