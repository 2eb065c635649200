"""Number and memory of bert-base models on a device, compared with one process per model."""

import statistics
import time
from collections.abc import Iterator
from typing import Any

from benchmarks.gpu import bare, driver
from benchmarks.gpu.callers import (
    CAPACITY,
    OK,
    CallerAnswer,
    gauges,
    load,
    ms,
    must_answer,
    must_load,
    statuses,
    text_of,
    together,
)
from benchmarks.gpu.day import Day
from benchmarks.gpu.day_section import Found, Prediction, Section
from benchmarks.stacks import MeasuredServer

LOADING_S = 15.0  # for each kind: the slope needs no full device
ASKED = 20  # of the loaded models, afterwards
SMALL_ROOM = 12  # models, on a device without memory of its own
MIB = 1 << 20
TEXT = "word1 word2 word3"


def measure(day: Day, found: Found) -> None:
    for kind in day.pick(("b16", "f32"), ("b16",)):
        found[kind] = {"alone_MiB": _alone_mib(day, kind), **_filled(day, kind)}
        each, alone = found[kind]["MiB_per_model"], found[kind]["alone_MiB"]
        if each and alone:
            found[kind]["over_a_process_each"] = round(alone / each, 2)


def _alone_mib(day: Day, kind: str) -> float | None:
    """Device memory of plain PyTorch with one such model, including the context."""
    before = driver.used_mib()
    if before is None:
        return None
    with bare.running(day.bert(kind, 0), day.device) as plain:
        plain.measure(1, 0.3, [TEXT])
        return driver.grown(before, driver.used_mib())


def _filled(day: Day, kind: str) -> Found:
    """Load the same files under many names until memory or time runs out."""
    nbytes = day.device_nbytes(kind)
    limits = {} if day.cuda and not day.small else {"MME_DEVICE_MEMORY": nbytes * SMALL_ROOM}
    before = driver.used_mib()
    with day.serving(f"density-{kind}", **limits) as server:
        must_load(server, "n0", day.bert(kind, 0))
        must_answer(server, text_of("n0", TEXT))
        first = driver.used_mib()
        fits = int(gauges(server)[CAPACITY] // nbytes)
        loads = list(_loads(day, server, kind, fits))
        fine = [each for each in loads if each.status == OK]
        grown = driver.grown(first, driver.used_mib())
        slope = None if grown is None or not fine else grown / len(fine)
        names = ["n0", *(each.ask.document["model_name"] for each in fine)]
        return {
            "nbytes": nbytes,
            "fits_by_ledger": fits,
            "loaded": len(names),
            "refused": [each.brief() for each in loads if each.status != OK],
            "server_with_one_model_MiB": driver.grown(before, first),
            **per_model(slope, nbytes),
            **_times(fine),
            "asked": _ask(server, names),
            "gauges": gauges(server),
        }


def per_model(slope_mib: float | None, nbytes: int) -> dict[str, float | None]:
    """Bytes per model according to the driver; None without a driver."""
    if slope_mib is None:
        return {"MiB_per_model": None, "beyond_weights_MiB": None}
    beyond = slope_mib - nbytes / MIB
    return {"MiB_per_model": round(slope_mib, 2), "beyond_weights_MiB": round(beyond, 2)}


def _loads(day: Day, server: MeasuredServer, kind: str, fits: int) -> Iterator[CallerAnswer]:
    """Load further models until one is refused, but no more than fit on the device, to avoid demotions."""
    ends = time.monotonic() + day.pick(LOADING_S, 5.0)
    for number in range(1, fits):
        answer = load(server, f"n{number}", day.bert(kind, 0))
        yield answer
        if answer.status != OK or time.monotonic() > ends:
            return


def _times(loads: list[CallerAnswer]) -> dict[str, Any]:
    if not loads:
        return {}
    seconds = [each.seconds for each in loads]
    return {"load_median_ms": ms(statistics.median(seconds)), "load_longest_ms": ms(max(seconds))}


def _ask(server: MeasuredServer, names: list[str]) -> dict[str, int]:
    chosen = names[:: max(1, len(names) // ASKED)]
    return statuses(together(server.port, [text_of(name, TEXT) for name in chosen], 4))


SECTIONS = (
    Section(
        "density",
        100,
        measure,
        (
            Prediction(
                "bert-bases on the device over a process for each, bfloat16",
                ("b16", "over_a_process_each"),
                3,
                4.5,
                "a context, cuBLAS's workspace and the allocator's blocks are paid once",
                "×",
                "T12",
                least=3.3,
            ),
            Prediction(
                "the same, float32",
                ("f32", "over_a_process_each"),
                2.2,
                3.5,
                "as above, beside twice the bytes",
                "×",
                "T12",
                least=2.5,
            ),
            Prediction(
                "device memory per bfloat16 model beyond its weights",
                ("b16", "beyond_weights_MiB"),
                0,
                2,
                "one allocation per model, rounded up to 2 MiB",
                "MiB",
                "T7",
                most=4,
            ),
        ),
    ),
)
