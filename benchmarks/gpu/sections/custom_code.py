"""Artifacts with their own code: device memory according to the driver, compared with the reserved bytes."""

from collections.abc import Mapping

from benchmarks.gpu import driver
from benchmarks.gpu.callers import RESERVED, Ask, gauges, invoke, load
from benchmarks.gpu.day import Day
from benchmarks.gpu.day_section import Found, Prediction, Section
from benchmarks.stacks import MeasuredServer

MIB = 1 << 20
Held = Mapping[str, float | None]
LARGE_ROWS = 65536  # 1 GiB in and 1 GiB out


def measure(day: Day, found: Found) -> None:
    rows = [8, day.pick(LARGE_ROWS, 64) if day.cuda else 64]
    with day.serving("custom-code") as server:
        found["at_start"] = _held(server)
        for number in range(2):
            name = f"c{number}"
            loaded = load(server, name, day.artifact(f"code-{number}"))
            found[name] = {"load": loaded.brief()}
            for which, count in zip(("small", "large"), rows, strict=True):
                found[name][which] = invoke(server, Ask(name, {"rows": count})).brief()
                found[name][f"after_{which}"] = _held(server)
        found |= of_second(found)


def of_second(found: Found) -> Found:
    """The figures of the second process: the first reading may be older than the main worker's context."""
    before = found["c0"]["after_large"]
    return {
        f"uncharged_after_{which}_MiB": uncharged(before, found["c1"][f"after_{which}"])
        for which in ("small", "large")
    }


def _held(server: MeasuredServer) -> Held:
    return {
        "driver_MiB": driver.used_mib(),
        "ledger_MiB": round(gauges(server).get(RESERVED, 0.0) / MIB, 1),
    }


def uncharged(before: Held, after: Held) -> float | None:
    """Growth of the driver's figure minus growth of the reserved bytes."""
    taken = driver.grown(before["driver_MiB"], after["driver_MiB"])
    charged = driver.grown(before["ledger_MiB"], after["ledger_MiB"])
    return None if taken is None or charged is None else round(taken - charged, 1)


SECTIONS = (
    Section(
        "custom-code",
        60,
        measure,
        (
            Prediction(
                "device memory of custom code beyond the ledger's, after a small request",
                ("uncharged_after_small_MiB",),
                0,
                300,
                "the ledger counts the context that the main worker measured, and the allocator's blocks;"
                " libraries of CUDA that the code loads add to it",
                "MiB",
            ),
            Prediction(
                "the same after a request of 2 GiB",
                ("uncharged_after_large_MiB",),
                0,
                300,
                "measured again after each request",
                "MiB",
            ),
        ),
    ),
)
