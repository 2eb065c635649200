"""Another process allocates nearly all device memory: large batches and a load, until it frees the memory."""

import contextlib
import json
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

from benchmarks import traffic
from benchmarks.gpu.callers import (
    OK,
    RESTARTS,
    CallerAnswer,
    gauges,
    invoke,
    load,
    must_load,
    statuses,
    text_of,
    together,
)
from benchmarks.gpu.child import ROOT
from benchmarks.gpu.day import Day
from benchmarks.gpu.day_section import Found, NotRun, Prediction, Section
from benchmarks.gpu.truth import Truth
from benchmarks.stacks import MeasuredServer

MODELS = 4
LEFT_MIB = 200
REQUESTS, CLIENTS = 128, 64


def measure(day: Day, found: Found) -> None:
    if not day.cuda:
        raise NotRun("needs a device with memory of its own")
    truth = Truth(day)
    with day.serving("memory") as server:
        for number in range(MODELS):
            must_load(server, f"m{number}", day.bert("f32", number))
        found["before"] = truth.verdict(_each(server, truth))
        with _hog() as taken:
            found["taken"] = taken
            found["large_batches"] = statuses(together(server.port, _large(), CLIENTS))
            found["load_while_full"] = load(server, "late", day.bert("f32", 5)).brief()
            found["small_while_full"] = statuses(_each(server, truth))
        after = _each(server, truth)
        found["after"] = truth.verdict(after) | {"statuses": statuses(after)}
        found["not_answered_after"] = sum(answer.status != OK for answer in after)
        found["load_after"] = load(server, "later", day.bert("f32", 5)).brief()
        found["load_after_status"] = found["load_after"][0]
        found["worker_restarts"] = gauges(server).get(RESTARTS)
        found["gauges"] = gauges(server)


def _each(server: MeasuredServer, truth: Truth) -> list[CallerAnswer]:
    return [invoke(server, truth.ask(f"m{number}", number)) for number in range(MODELS)]


def _large() -> Iterator[Any]:
    for number, text in enumerate(traffic.texts(400, REQUESTS, seed=17)):
        yield text_of(f"m{number % MODELS}", text)


@contextlib.contextmanager
def _hog() -> Iterator[dict[str, int]]:
    """The bytes that the other process allocated and left free."""
    command = [sys.executable, "-m", "benchmarks.gpu.plain.hog", str(LEFT_MIB)]
    pipe = subprocess.PIPE
    process = subprocess.Popen(command, cwd=ROOT, stdin=pipe, stdout=pipe, text=True)
    assert process.stdout is not None
    try:
        yield json.loads(process.stdout.readline())
    finally:
        process.kill()
        process.communicate()


SECTIONS = (
    Section(
        "out-of-memory",
        60,
        measure,
        (
            Prediction(
                "models that do not answer once the memory is free again",
                ("not_answered_after",),
                0,
                0,
                "a failed batch is answered 507 and leaves nothing behind",
                most=0,
            ),
            Prediction(
                "status of a load once the memory is free again",
                ("load_after_status",),
                200,
                200,
                "the ledger has room, and now the device has it too",
                least=200,
                most=200,
            ),
            Prediction(
                "workers lost", ("worker_restarts",), 0, 0, "out of memory loses no device", most=0
            ),
        ),
    ),
)
