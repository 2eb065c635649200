"""The worker is killed while many models are loaded: the time until the first correct response."""

import time

import psutil

from benchmarks.gpu import driver
from benchmarks.gpu.callers import OK, RESTARTS, gauges, invoke, load, spread, statuses, together
from benchmarks.gpu.day import Day
from benchmarks.gpu.day_section import Found, NotRun, Prediction, Section
from benchmarks.gpu.truth import Truth
from benchmarks.stacks import MeasuredServer

PATIENCE_S = 30.0
CLIENTS = 8


def measure(day: Day, found: Found) -> None:
    """The models share the files of a few artifacts."""
    count, files = day.pick((200, 32), (12, 6))
    truth = Truth(day)
    with day.serving("killed") as server:
        loads = [load(server, _name(n, files), day.bert("b16", n % files)) for n in range(count)]
        names = [each.ask.document["model_name"] for each in loads if each.status == OK]
        found["loaded"], found["load_ms"] = len(names), spread(one.seconds for one in loads)
        found["driver_used_MiB"] = driver.used_mib()
        found["asked_before"] = _ask_all(server, truth, names)
        _kill(server)
        found |= _until_right(server, truth, names[-1])
        found["asked_after"] = _ask_all(server, truth, names)
        found["worker_restarts"] = gauges(server).get(RESTARTS)


def _name(number: int, files: int) -> str:
    """Name of model `number`, with the number of its artifact before the dash."""
    return f"m{number % files}-{number // files}"


def _kill(server: MeasuredServer) -> None:
    """Kill the device worker. Raises NotRun if no process has its name."""
    workers = [each for each in server.processes() if "worker" in _title(each)]
    if not workers:
        raise NotRun("no process is called a worker")
    for worker in workers:
        worker.kill()


def _title(process: psutil.Process) -> str:
    try:
        return str(process.name())
    except psutil.NoSuchProcess:
        return ""


def _until_right(server: MeasuredServer, truth: Truth, name: str) -> Found:
    began = time.monotonic()
    answers = [invoke(server, truth.ask(name, 0))]
    while not truth.right(answers[-1]) and time.monotonic() - began < PATIENCE_S:
        answers.append(invoke(server, truth.ask(name, len(answers))))
    right = truth.right(answers[-1])
    return {
        "first_right_answer_s": round(time.monotonic() - began, 3) if right else None,
        "statuses_until_then": statuses(answers),
        "last_answer": answers[-1].brief(),
    }


def _ask_all(server: MeasuredServer, truth: Truth, names: list[str]) -> Found:
    began = time.monotonic()
    asks = (truth.ask(name, number) for number, name in enumerate(names))
    answers = together(server.port, asks, CLIENTS)
    verdict = truth.verdict(answers)
    return {"seconds": round(time.monotonic() - began, 2), "statuses": statuses(answers)} | verdict


SECTIONS = (
    Section(
        "killed",
        75,
        measure,
        (
            Prediction(
                "worker killed with 200 models on the GPU, until the first right answer",
                ("first_right_answer_s",),
                1,
                10,
                "a fork takes 20 ms, a CUDA context some 0.3 s; models return in the order of their last use",
                "s",
                "G4",
                most=1,
            ),
            Prediction(
                "wrong answers of all of them afterwards",
                ("asked_after", "wrong"),
                0,
                0,
                "weights are copied from their files again",
                most=0,
            ),
        ),
    ),
)
