"""Promotion of a demoted model, compared with a plain copy of as many bytes."""

import statistics
from typing import Any

from benchmarks.gpu import child, driver
from benchmarks.gpu.callers import CallerAnswer, gauges, invoke, load, ms
from benchmarks.gpu.day import ROOM, Day
from benchmarks.gpu.day_section import Found, NotRun, Prediction, Section
from benchmarks.gpu.truth import Truth
from benchmarks.stacks import MeasuredServer
from container import settings

MODELS = 6
RESIDENT = 2.2  # models' worth of device memory
TURNS = 4  # rounds over the models; the first is not counted
AS_BFLOAT16 = "f32-as-bfloat16"
CASES: tuple[tuple[str, str, dict[str, str]], ...] = (
    ("b16", "b16", {}),
    ("f32", "f32", {}),
    (AS_BFLOAT16, "f32", {"MME_DTYPE": "bfloat16"}),
)
REGISTERED = "MME_REGISTERED_MEMORY"


def measure(day: Day, found: Found) -> None:
    sizes = {kind: day.weights_nbytes(kind) for kind in ("b16", "f32")}
    plain = child.run("plain.copies", day.device, *sizes.values(), timeout_s=60)
    found["plain_copy_GBps"] = {kind: plain[str(nbytes)] for kind, nbytes in sizes.items()}
    for label, kind, extra in day.pick(CASES, CASES[:1]):
        held = day.device_nbytes(kind) // (2 if label == AS_BFLOAT16 else 1)
        found[label] = swaps(day, label, kind, held, extra)
        rate = found[label]["swap_in_GBps"]
        if rate is not None:
            found[label]["of_plain_copy"] = round(rate / found["plain_copy_GBps"][kind], 3)


def swaps(day: Day, label: str, kind: str, nbytes: int, extra: dict[str, str]) -> Found:
    """One client invokes models in turn, each twice: the first response waits for the promotion.

    `nbytes`: of a model on the device.
    """
    truth = Truth(day)
    limits = {"MME_DEVICE_MEMORY": int(nbytes * RESIDENT), "MME_HOST_MEMORY": ROOM}
    with day.serving(f"swap-{label}", **limits, **extra) as server:
        loads = [load(server, f"m{n}", day.bert(kind, n)) for n in range(MODELS)]
        loaded = [n for n, answer in enumerate(loads) if answer.status == 200]
        first, second = turns(server, truth, loaded)
        return {
            "nbytes": nbytes,
            "loaded": len(loaded),
            "refused": [answer.brief() for answer in loads if answer.status != 200],
            **returned(nbytes, first, second, demoted=len(loaded) > RESIDENT),
            **truth.verdict([*first, *second]),
            "gauges": gauges(server),
            "driver_used_MiB": driver.used_mib(),
        }


def turns(
    server: MeasuredServer, truth: Truth, models: list[int]
) -> tuple[list[CallerAnswer], list[CallerAnswer]]:
    """Times of the first and the second response of each turn, after a warm-up round."""
    first, second = [], []
    for turn in range(TURNS * len(models)):
        name = f"m{models[turn % len(models)]}"
        pair = [invoke(server, truth.ask(name, turn)) for _ in range(2)]
        if turn >= len(models):
            first.append(pair[0])
            second.append(pair[1])
    return first, second


def returned(
    nbytes: int, first: list[CallerAnswer], second: list[CallerAnswer], *, demoted: bool
) -> dict[str, Any]:
    """The rate of a promotion: bytes divided by the additional time of the first response.

    None if no model was demoted.
    """
    if not first:
        return {"swap_in_GBps": None}
    miss, hot = (statistics.median(each.seconds for each in side) for side in (first, second))
    rate = nbytes / (miss - hot) / 1e9 if demoted and miss > hot else None
    return {"miss_ms": ms(miss), "hot_ms": ms(hot), "swap_in_GBps": rate and round(rate, 2)}


# ---- page cache that is registered with the driver ----


def registered(day: Day, found: Found) -> None:
    """Like `measure` for bfloat16, with registered memory."""
    if REGISTERED not in settings.describe():
        raise NotRun(f"the container has no {REGISTERED}")
    nbytes = day.device_nbytes("b16")
    plain = child.run("plain.copies", day.device, nbytes, timeout_s=60)[str(nbytes)]
    found |= swaps(day, "registered", "b16", nbytes, {REGISTERED: "4GiB"})
    if found["swap_in_GBps"] is not None:
        found["of_plain_copy"] = round(found["swap_in_GBps"] / plain, 3)


_READS = "about 1 ms of Python; the file's pages are read into the ring by several threads at 20 to 36 GB/s"

SECTIONS = (
    Section(
        "swap",
        100,
        measure,
        (
            Prediction(
                "return of a bfloat16 bert-base, of a plain copy's rate",
                ("b16", "of_plain_copy"),
                0.35,
                0.7,
                _READS,
                "×",
                "G1",
                least=0.9,
            ),
            Prediction(
                "return of a float32 bert-base, of a plain copy's rate",
                ("f32", "of_plain_copy"),
                0.35,
                0.7,
                "the same beside twice the bytes",
                "×",
                "T3",
                least=0.9,
            ),
            Prediction(
                "return of float32 files as bfloat16",
                (AS_BFLOAT16, "swap_in_GBps"),
                18,
                36,
                "float32 bytes through the ring as above; the device converts while the next chunk is copied",
                "GB/s",
            ),
            Prediction(
                "plain copy of a bfloat16 bert-base from page-locked memory",
                ("plain_copy_GBps", "b16"),
                48,
                57,
                "PCIe 5 at 16 lanes; 52 to 56 GB/s were published for an H100",
                "GB/s",
            ),
        ),
    ),
    Section(
        "registered-memory",
        60,
        registered,
        (
            Prediction(
                f"return of a bfloat16 bert-base with {REGISTERED}, of a plain copy's rate",
                ("of_plain_copy",),
                0.4,
                0.9,
                "no copy within main memory, which bounds the ring; some 2 ms beside the copy remain",
                "×",
                "G1",
                least=0.9,
            ),
        ),
    ),
)
