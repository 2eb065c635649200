"""The length of the path that one request takes, in the real processes."""

import subprocess
import sys
from pathlib import Path

from benchmarks.invoke_path import recorded
from benchmarks.stacks import ROOT

MAX_FILES, MAX_CALLS = 20, 210


def test_one_invoke_passes_few_files_and_functions(tmp_path: Path) -> None:
    build = [sys.executable, "-m", "benchmarks.tiny_models", str(tmp_path), "1"]
    subprocess.run(build, cwd=ROOT, check=True, capture_output=True)
    front, worker = recorded(tmp_path)
    assert min(len(front), len(worker)) > 3, "nothing was recorded"
    assert len(front | worker) <= MAX_FILES, sorted(front | worker)
    assert sum([*front.values(), *worker.values()]) <= MAX_CALLS, (front, worker)
