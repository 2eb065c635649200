"""The machine, and a check that the container starts and responds on it."""

import contextlib
import os
import subprocess

from benchmarks import environment
from benchmarks.gpu import child, driver
from benchmarks.gpu.callers import invoke, ms, must_answer, must_load
from benchmarks.gpu.day import Day
from benchmarks.gpu.day_section import Found, NotRun, Prediction, Section
from benchmarks.gpu.schedule import ENVIRONMENT, PREFLIGHT
from benchmarks.gpu.truth import Truth


def facts(day: Day, found: Found) -> None:
    found["driver"] = driver.query(*driver.FACTS)
    found["machine"] = environment.describe()
    found["commit"] = _commit()
    found["torch"] = child.run("plain.facts", day.device, timeout_s=60)


def _commit() -> str | None:
    """GPU_DAY_COMMIT takes precedence: the repository beside a copy may be at another commit."""
    if named := os.environ.get("GPU_DAY_COMMIT"):
        return named
    command = ["git", "log", "-1", "--format=%h %cs %s"]
    with contextlib.suppress(OSError, subprocess.SubprocessError):
        done = subprocess.run(command, cwd=child.ROOT, capture_output=True, text=True, check=True)
        return done.stdout.strip()
    return None


def preflight(day: Day, found: Found) -> None:
    truth = Truth(day)
    with day.serving(PREFLIGHT) as server:
        found["ping_s"] = round(server.ping_s, 2)
        # waits for the worker's imports and its CUDA context
        found["worker_and_first_load_s"] = round(must_load(server, "m1", day.bert("b16", 1)), 2)
        found["first_answer_ms"] = ms(must_answer(server, truth.ask("m1", 0)))
        again = [invoke(server, truth.ask("m1", number)) for number in range(1, 9)]
        found["hot_ms"] = ms(min(answer.seconds for answer in again))
        found |= truth.verdict(again)


def device_or_reason(day: Day, found: Found) -> None:
    """Raises NotRun if a GPU is required and PyTorch does not find one."""
    facts(day, found)
    if day.cuda and not found["torch"]["cuda_available"]:
        raise NotRun("PyTorch finds no CUDA device; --device cpu --small is the dry run")


SECTIONS = (
    Section(ENVIRONMENT, 90, device_or_reason, serves=False),
    Section(
        PREFLIGHT,
        90,
        preflight,
        (
            Prediction(
                "answers that differ from the CPU's",
                ("wrong",),
                0,
                0,
                "same weights, bfloat16 arithmetic",
                most=0,
            ),
            Prediction(
                "one hot answer of a bert-base",
                ("hot_ms",),
                4,
                15,
                "twelve layers launched one by one take 6 ms on an A10G's host; HTTP and queues under 1 ms",
                "ms",
            ),
        ),
    ),
)
