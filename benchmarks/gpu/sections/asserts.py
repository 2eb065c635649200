"""One request causes a device-side assert: the effect on other models and requests."""

import itertools
import time
from collections import Counter

from benchmarks.gpu.callers import (
    OK,
    RESTARTS,
    Ask,
    CallerAnswer,
    gauges,
    invoke,
    load,
    must_answer,
    must_load,
    ping,
    text_of,
)
from benchmarks.gpu.day import Day
from benchmarks.gpu.day_section import Found, NotRun, Prediction, Section
from benchmarks.gpu.truth import Truth
from benchmarks.stacks import MeasuredServer

PATIENCE_S = 20.0
IN_RANGE = Ask("table", {"inputs": [[1, 2, 3]]})
OUT_OF_RANGE = Ask("table", {"inputs": [[1, 2, 1000]]})
SAMPLED = {
    "plain": {},
    "temperature 1e-40": {"temperature": 1e-40},
    "repetition_penalty 1e-40": {"repetition_penalty": 1e-40},
}


def _neighbours(day: Day, server: MeasuredServer, truth: Truth) -> None:
    for number in range(2):
        must_load(server, f"m{number}", day.bert("b16", number))
        must_answer(server, truth.ask(f"m{number}", 0))


# ---- case 64 of the contract: a device assert is no 507, and ping says 503 ----


def case_64(day: Day, found: Found) -> None:
    truth = Truth(day)
    with day.serving("contract-64") as server:
        _neighbours(day, server, truth)
        loaded = load(server, "table", day.artifact("table"))
        if loaded.status != OK:
            raise NotRun(f"TorchScript was refused: {loaded.brief()}")
        found["in_range"] = invoke(server, IN_RANGE).brief()
        bad = invoke(server, OUT_OF_RANGE)
        found["out_of_range"] = bad.brief()
        found["status"] = bad.status
        found |= _aftermath(server, truth)
        found["table_again"] = invoke(server, IN_RANGE).brief()


def _aftermath(server: MeasuredServer, truth: Truth) -> Found:
    """Invoke a neighbour and /ping until the neighbour responds as before."""
    began, pings, answers = time.monotonic(), Counter[int](), list[CallerAnswer]()
    for number in itertools.count():
        pings[ping(server)] += 1
        answers.append(invoke(server, truth.ask("m0", number)))
        if truth.right(answers[-1]) or time.monotonic() - began > PATIENCE_S:
            break
    back = round(time.monotonic() - began, 2) if truth.right(answers[-1]) else None
    return {
        "neighbour_back_after_s": back,
        "pings": dict(pings),
        "highest_ping": max(pings),
        "neighbour_statuses": dict(Counter(answer.status for answer in answers)),
        "other_neighbour_right": truth.right(invoke(server, truth.ask("m1", 1))),
        "worker_restarts": gauges(server).get(RESTARTS),
    }


# ---- a caller's own parameters ----


def sampling(day: Day, found: Found) -> None:
    """NaN probabilities, which `multinomial` on CUDA checks with a device assert."""
    truth = Truth(day)
    with day.serving("asserts", MME_REQUEST_TIMEOUT=6) as server:
        _neighbours(day, server, truth)
        must_load(server, "gpt", day.artifact("gpt"))
        for label, parameters in SAMPLED.items():
            drawn = {"do_sample": True, "max_new_tokens": 4, **parameters}
            found[label] = invoke(server, text_of("gpt", truth.texts[0], **drawn)).brief()
            found[f"after {label}"] = invoke(server, truth.ask("m0", 0)).brief()[:2]
        found["worker_restarts"] = gauges(server).get(RESTARTS)


SECTIONS = (
    Section(
        "contract-64",
        60,
        case_64,
        (
            Prediction(
                "status of the request with an index out of range",
                ("status",),
                500,
                503,
                "a lost device is no lack of memory",
                name="case 64",
                least=500,
                most=503,
            ),
            Prediction(
                "/ping while the device is lost",
                ("highest_ping",),
                200,
                200,
                "a worker that is replaced at once counts as healthy; 503 comes after four failed starts",
                name="case 64",
                least=503,
            ),
            Prediction(
                "neighbours answer again after",
                ("neighbour_back_after_s",),
                1,
                5,
                "1.6 s on an emulated CUDA runtime; a real context takes longer to make",
                "s",
            ),
        ),
    ),
    Section(
        "asserts",
        60,
        sampling,
        (
            Prediction(
                "workers lost to sampling parameters",
                ("worker_restarts",),
                0,
                0,
                "such values have to be refused or bounded before they reach the device",
                most=0,
            ),
        ),
    ),
)
