"""The tests marked `gpu`, run with the Python and the libraries of this machine."""

import re
import subprocess
import sys
from pathlib import Path

from benchmarks.gpu.child import ROOT
from benchmarks.gpu.day import Day
from benchmarks.gpu.day_section import Found, NotRun, Prediction, Section

LIMIT_S = 120.0
MARK = "pytest.mark.gpu"
TESTS_FAILED = 1  # exit status of pytest
_COUNT = re.compile(r"(\d+) (passed|failed|skipped|errors?|deselected)")


def measure(day: Day, found: Found) -> None:
    files = marked(ROOT / "tests")
    if not files:
        raise NotRun("the tests are not here")
    command = [
        *(sys.executable, "-m", "pytest", *map(str, files), "-m", "gpu", "-q", "-W", "default"),
        *("--timeout", "100"),
    ]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=LIMIT_S)
    (day.output / "pytest.txt").write_text(done.stdout + done.stderr, encoding="utf-8")
    lines = done.stdout.strip().splitlines()
    found["exit_status"] = done.returncode
    found["tail"] = lines[-15:]
    found |= counts(lines[-1] if lines else "")
    if done.returncode not in (0, TESTS_FAILED):
        raise RuntimeError(f"pytest ended with {done.returncode}: {done.stderr[-1500:]}")


def marked(tests: Path) -> list[Path]:
    """Files with tests that have this mark: other files may need packages that a GPU machine lacks.

    Without the tests that need the fake CUDA runtime.
    """
    files = sorted(set(tests.rglob("test_*.py")) - set((tests / "fake_cuda").rglob("*")))
    return [file for file in files if MARK in file.read_text(encoding="utf-8")]


def counts(summary: str) -> dict[str, int]:
    """The counts in the last line of pytest's output."""
    none = {"passed": 0, "failed": 0, "skipped": 0, "error": 0}
    found = {word.rstrip("s"): int(number) for number, word in _COUNT.findall(summary)}
    return none | {name: number for name, number in found.items() if name in none}


SECTIONS = (
    Section(
        "tests",
        130,
        measure,
        (
            Prediction(
                "tests that fail",
                ("failed",),
                0,
                3,
                "none has run on a GPU before; on an emulated CUDA runtime what they cover was sound",
                most=0,
            ),
        ),
        serves=False,
    ),
)
