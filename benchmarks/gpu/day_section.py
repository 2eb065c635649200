"""A section of the day: one question, its measurement, its time budget, and what was predicted."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from benchmarks.gpu.day import Day

Found = dict[str, Any]
Measure = Callable[[Day, Found], None]


class NotRun(Exception):
    """This section has nothing to measure here; `str(error)` is the reason."""


@dataclass(frozen=True)
class Prediction:
    """A statement from before the first run about the number at `path` in the section's results.

    `low` and `high` are the predicted range. `most` and `least` are targets of the project; `name` is the
    target's own.
    """

    what: str
    path: tuple[str, ...]
    low: float
    high: float
    because: str
    unit: str = ""
    name: str = ""
    most: float | None = None
    least: float | None = None

    def beside(self, found: Mapping[str, Any]) -> dict[str, Any]:
        """For the JSON: the prediction, the target and the outcome, which is null where there is none."""
        return {
            "what": self.what,
            "unit": self.unit,
            "predicted": [self.low, self.high],
            "because": self.because,
            "target": {"name": self.name, "most": self.most, "least": self.least},
            "outcome": number_at(found, self.path),
        }


def number_at(found: Any, path: tuple[str, ...]) -> float | None:
    for key in path:
        found = found.get(key) if isinstance(found, Mapping) else None
    if isinstance(found, int | float) and math.isfinite(found):
        return float(found)
    return None


@dataclass(frozen=True)
class Section:
    """`measure` fills a dict step by step, so that a section cut short keeps what it has.

    `seconds`: its budget. `serves`: whether it starts the container.
    """

    name: str
    seconds: float
    measure: Measure
    predictions: tuple[Prediction, ...] = ()
    serves: bool = True
