"""Shared by all sections: the device, the sizes, and the directories of models and results."""

import contextlib
import dataclasses
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from benchmarks import stacks
from benchmarks.stacks import OURS, MeasuredServer

T = TypeVar("T")
LOG_LINES = 30
LOG_CHARACTERS = 4000
ROOM = "40GiB"  # of main memory, for models that are not on the device


@dataclass(frozen=True)
class Day:
    """`small`: models and windows for a dry run on a machine without a GPU. `models`: see `models.py`."""

    device: str  # cuda | cpu
    small: bool
    output: Path
    models: Path

    @property
    def cuda(self) -> bool:
        return self.device == "cuda"

    def pick(self, full: T, small: T) -> T:
        return small if self.small else full

    def artifact(self, name: str) -> Path:
        return self.models / name / "model"

    def bert(self, kind: str, number: int) -> Path:
        """`kind`: b16 (bfloat16) or f32 (float32)."""
        return self.artifact(f"{kind}-{number:02}")

    def weights_nbytes(self, kind: str) -> int:
        return (self.bert(kind, 0) / "model.safetensors").stat().st_size

    def device_nbytes(self, kind: str) -> int:
        """Bytes of one model on the device. A CPU computes in float32, regardless of the stored type."""
        return self.weights_nbytes(kind if self.cuda else "f32")

    @contextlib.contextmanager
    def serving(self, label: str, **settings: object) -> Iterator[MeasuredServer]:
        """Start a container. An exception in the block gets the last lines of its log as a note."""
        log = self.output / f"server-{label}.log"
        stack = dataclasses.replace(OURS, settings={"MME_DEVICE": self.device})
        text = {name: str(value) for name, value in settings.items()}
        with log.open("wb") as output:
            try:
                with stacks.serving(stack, self.models, output=output, **text) as server:
                    yield server
            except BaseException as error:  # passed on
                error.add_note(tail(log))
                raise

    def expected(self) -> dict[str, Any]:
        """The models' answers on the CPU: {"texts": […], "answers": [[[label, score], …], …]}."""
        found: dict[str, Any] = json.loads((self.models / "expected.json").read_text())
        return found


def tail(log: Path) -> str:
    text = log.read_text(encoding="utf-8", errors="replace") if log.exists() else ""
    return "\n".join(text.splitlines()[-LOG_LINES:])[-LOG_CHARACTERS:]
