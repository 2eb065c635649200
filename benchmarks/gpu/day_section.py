"""A section of the GPU day: one question with its measurement, time budget and predictions."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from benchmarks.gpu.day import Day

Found = dict[str, Any]
Measure = Callable[[Day, Found], None]


class NotRun(Exception):
    """The section cannot be measured on this machine; `str(error)` is the reason."""


@dataclass(frozen=True)
class Prediction:
    """A prediction, made before the first run, of the number at `path` in the section's results.

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
        """The prediction, the target and the measured value (None: not measured), for the JSON."""
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
    """`measure` fills a dict step by step, so that an interrupted section keeps its results so far.

    `seconds`: its budget. `serves`: whether it starts the container.
    """

    name: str
    seconds: float
    measure: Measure
    predictions: tuple[Prediction, ...] = ()
    serves: bool = True
