"""Hostile artifacts: what a case is, and all of them. Their builders are in the modules beside this one.

`tests/fuzz` mutates artifacts of the same kinds; `tests/storm` loads these among healthy ones.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

REFUSED = frozenset({500, 507})  # of a load: the artifact is at fault, or does not fit
EITHER = frozenset({200, *REFUSED})  # may load, because the fault shows only when it is asked
ANSWERED = frozenset({200})
FAILED = frozenset({400, 413, 500, 503, 504, 507})


@dataclass(frozen=True, slots=True)
class Hostile:
    """`write` fills an existing, empty directory. `load`: allowed statuses of the load. If it is 200, `asked`
    is sent and its status is one of `answers`. `replaced`: the process that computes may have to die."""

    name: str
    write: Callable[[Path], object]
    load: frozenset[int] = REFUSED
    asked: bytes = b'{"inputs": "the quick brown fox"}'
    answers: frozenset[int] = FAILED
    replaced: bool = False

    def at(self, root: Path) -> Path:
        directory = root / self.name / "model"
        directory.mkdir(parents=True)
        self.write(directory)
        return directory


def edited(file: Path, **changes: Any) -> None:
    """Change keys of a JSON object in a file."""
    file.write_text(json.dumps(json.loads(file.read_text()) | changes))


def properties(directory: Path, **values: object) -> None:
    """Write serving.properties; `__` in a key is a dot."""
    lines = [f"{key.replace('__', '.')}={value}\n" for key, value in values.items()]
    (directory / "serving.properties").write_text("".join(lines))


def rows(*numbers: float) -> bytes:
    """A request with one row of numbers."""
    return json.dumps({"inputs": [list(numbers)]}).encode()
