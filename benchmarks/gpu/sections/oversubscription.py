"""More models than fit on the device, with requests by Zipf's law; responses are checked against the CPU."""

import itertools
import random
import time
from collections.abc import Iterator

from benchmarks import traffic
from benchmarks.gpu import driver
from benchmarks.gpu.callers import OK, Ask, gauges, load, spread, statuses, together
from benchmarks.gpu.day import ROOM, Day
from benchmarks.gpu.day_section import Found, Prediction, Section
from benchmarks.gpu.truth import Truth

SKEW = 0.9
SEED = 7
CLIENTS = 32
ALL, THIRD = "all-resident", "a-third"


def measure(day: Day, found: Found) -> None:
    count = day.pick(24, 6)
    rooms = {ALL: count + 2.0, THIRD: count / 3 + 0.3}
    for label in day.pick((ALL, THIRD), (THIRD,)):
        found[label] = _traffic(day, label, count, rooms[label])
        found["wrong"] = found.get("wrong", 0) + found[label]["wrong"]
        found["not_answered"] = found.get("not_answered", 0) + _failures(found[label])
    if found.get(ALL, {}).get("per_s"):
        found["a_third_over_all"] = round(found[THIRD]["per_s"] / found[ALL]["per_s"], 3)


def _failures(traffic_found: Found) -> int:
    counted: dict[str, int] = traffic_found["statuses"]
    return sum(count for status, count in counted.items() if status != str(OK))


def _traffic(day: Day, label: str, count: int, resident: float) -> Found:
    truth = Truth(day)
    limits = {
        "MME_DEVICE_MEMORY": int(day.device_nbytes("b16") * resident),
        "MME_HOST_MEMORY": ROOM,
    }
    with day.serving(f"oversubscription-{label}", **limits) as server:
        loads = [load(server, f"m{n}", day.bert("b16", n)) for n in range(count)]
        names = [load.ask.model for load in loads if load.status == OK]
        seconds = day.pick(10.0, 2.0)
        answers = together(server.port, asks(truth, names, seconds), CLIENTS)
        return {
            "loaded": len(names),
            "load_ms": spread(load.seconds for load in loads),
            "per_s": round(sum(answer.status == OK for answer in answers) / seconds, 1),
            "latency": spread(answer.seconds for answer in answers if answer.status == OK),
            "statuses": statuses(answers),
            **truth.verdict(answers),
            "gauges": gauges(server),
            "driver_used_MiB": driver.used_mib(),
            "leaks_logged": _leaks(day, label),
        }


def asks(truth: Truth, names: list[str], seconds: float) -> Iterator[Ask]:
    """Requests until the time is over. The order of popularity is independent of the order of loading."""
    ends = time.monotonic() + seconds
    popular = random.Random(SEED).sample(names, len(names))
    order = traffic.cycle(traffic.draws(traffic.zipf(len(popular), SKEW), SEED))
    for number, index in zip(itertools.count(), order, strict=False):
        if time.monotonic() > ends:
            return
        yield truth.ask(popular[index], number)


def _leaks(day: Day, label: str) -> int:
    log = day.output / f"server-oversubscription-{label}.log"
    return log.read_text(encoding="utf-8", errors="replace").count('"leaked"')


SECTIONS = (
    Section(
        "oversubscription",
        90,
        measure,
        (
            Prediction(
                "answers that differ from the CPU's",
                ("wrong",),
                0,
                0,
                "on an emulated runtime with the laziest copies no tensor was wrong after its return",
                most=0,
            ),
            Prediction(
                "requests without an answer", ("not_answered",), 0, 0, "they wait in queues", most=0
            ),
            Prediction(
                "throughput with room for a third of the models, over room for all",
                ("a_third_over_all",),
                0.3,
                0.8,
                "a return takes 8 to 15 ms, while a batch of a resident model takes 6",
                "×",
            ),
        ),
    ),
)
