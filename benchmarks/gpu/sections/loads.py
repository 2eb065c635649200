"""Loads over HTTP, compared with plain reads and copies; first responses with and without warm-up."""

import re
import statistics
from typing import Any

from benchmarks.gpu import child
from benchmarks.gpu.callers import gauges, ms, must_answer, must_load
from benchmarks.gpu.day import Day
from benchmarks.gpu.day_section import Found, NotRun, Prediction, Section
from benchmarks.gpu.truth import Truth
from benchmarks.stacks import MeasuredServer
from container import settings

MODELS = 4
HOT = 5
CASES: tuple[tuple[str, tuple[str, ...], dict[str, str]], ...] = (
    ("as-stored", ("b16", "f32"), {}),
    ("as-bfloat16", ("f32",), {"MME_DTYPE": "bfloat16"}),
)
_WARM_UP = re.compile(r"\bMME_WARM_?UP\b")


def measure(day: Day, found: Found) -> None:
    directories = [day.bert(kind, number) for kind in ("b16", "f32") for number in range(2)]
    found["plain"] = child.run("plain.loads", day.device, *directories, timeout_s=90)
    for label, kinds, extra in day.pick(CASES, CASES[:1]):
        with day.serving(f"load-{label}", **extra) as server:
            found[label] = {kind: _rows(day, server, kind) for kind in kinds}
            found[label]["gauges"] = gauges(server)
    for kind, plain in (("b16", found["plain"][1]), ("f32", found["plain"][3])):
        ours = statistics.median(row["load_ms"] for row in found["as-stored"][kind][1:])
        found[f"{kind}_over_plain"] = round(ours / plain["read_and_bind_again_ms"], 3)


def _rows(day: Day, server: MeasuredServer, kind: str) -> list[dict[str, float]]:
    truth = Truth(day)
    return [
        _row(server, truth, f"m{number}-{kind}", day.bert(kind, number)) for number in range(MODELS)
    ]


def _row(server: MeasuredServer, truth: Truth, name: str, directory: Any) -> dict[str, float]:
    """The first load waits for the worker; the first load of a structure also builds its modules."""
    taken_s = must_load(server, name, directory)
    first_s = must_answer(server, truth.ask(name, 3))
    hot_s = min(must_answer(server, truth.ask(name, 3)) for _ in range(HOT))
    return {"load_ms": ms(taken_s), "first_ms": ms(first_s), "hot_ms": ms(hot_s)}


# ---- the warm-up forward at load, on and off ----


def warm_up(day: Day, found: Found) -> None:
    match = _WARM_UP.search(settings.describe())
    if match is None:
        raise NotRun("the container has no setting for a warm-up at load")
    found["setting"] = match[0]
    for value in ("true", "false"):
        with day.serving(f"warm-up-{value}", **{match[0]: value}) as server:
            found[value] = _rows(day, server, "b16")
            row = found[value][0]
            found[f"first_over_hot_{value}"] = round(row["first_ms"] / row["hot_ms"], 2)


SECTIONS = (
    Section(
        "load",
        90,
        measure,
        (
            Prediction(
                "load of a bfloat16 bert-base over plain reading and copying",
                ("b16_over_plain",),
                0.3,
                1.3,
                "copies from page-locked memory and kept modules against pageable copies and new ones",
                "×",
                "T2",
                most=1.3,
            ),
            Prediction(
                "the same, float32",
                ("f32_over_plain",),
                0.3,
                1.3,
                "as above",
                "×",
                "T2",
                most=1.3,
            ),
        ),
    ),
    Section(
        "warm-up",
        60,
        warm_up,
        (
            Prediction(
                "first answer of the first model over a hot one, warmed up",
                ("first_over_hot_true",),
                1,
                3,
                "handles and kernels are there; this length was not seen before",
                "×",
            ),
            Prediction(
                "the same without a warm-up",
                ("first_over_hot_false",),
                10,
                200,
                "cuBLAS's handle and every kernel are loaded by the first request",
                "×",
            ),
        ),
    ),
)
