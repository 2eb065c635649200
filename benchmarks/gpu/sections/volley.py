"""Concurrent requests, one for each of many models: batching within a model cannot help."""

import statistics

from benchmarks import traffic
from benchmarks.gpu.callers import OK, gauges, ms, must_answer, must_load, text_of, volleys
from benchmarks.gpu.day import Day
from benchmarks.gpu.day_section import Found, Prediction, Section
from benchmarks.gpu.truth import Truth

TEXT = traffic.texts(30, 1, seed=13)[0]  # 32 tokens


def measure(day: Day, found: Found) -> None:
    names = [f"m{number}" for number in range(day.pick(32, 6))]
    truth = Truth(day)
    with day.serving("volley") as server:
        for number, name in enumerate(names):
            must_load(server, name, day.bert("b16", number))
        asks = [text_of(name, TEXT) for name in names]
        found["alone_ms"] = ms(min(must_answer(server, asks[0]) for _ in range(10)))
        rounds = volleys(server.port, asks, day.pick(30, 5))[2:]
        taken = sorted(seconds for seconds, _ in rounds)
        found["models"] = len(names)
        found["fastest_ms"], found["slowest_ms"] = ms(taken[0]), ms(taken[-1])
        found["round_ms"] = ms(statistics.median(taken))
        found["not_answered"] = sum(one.status != OK for _, each in rounds for one in each)
        checked = volleys(server.port, [truth.ask(name, 5) for name in names], 2)
        found |= truth.verdict(answer for _, answers in checked for answer in answers)
        found["gauges"] = gauges(server)


SECTIONS = (
    Section(
        "volley",
        60,
        measure,
        (
            Prediction(
                "32 bert-bases × one request of 32 tokens, until the last answer",
                ("round_ms",),
                100,
                300,
                "32 forwards one after the other at 6 ms of launches each",
                "ms",
                "G3",
                most=10,
            ),
            Prediction(
                "answers that differ from the CPU's",
                ("wrong",),
                0,
                0,
                "same weights, bfloat16 arithmetic",
                most=0,
            ),
        ),
    ),
)
