"""The length of the path that one request takes, in the real processes."""

import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.invoke_path import recorded
from benchmarks.stacks import ROOT

MAX_FILES, MAX_CALLS = 20, 200
RECORDINGS = 3


def test_one_invoke_passes_few_files_and_functions(tmp_path: Path) -> None:
    """The best of several recordings: timers such as the fork server's heartbeat may run meanwhile."""
    build = [sys.executable, "-m", "benchmarks.tiny_models", str(tmp_path), "1"]
    subprocess.run(build, cwd=ROOT, check=True, capture_output=True)
    for _ in range(RECORDINGS):
        front, worker = recorded(tmp_path)
        assert min(len(front), len(worker)) > 3, "nothing was recorded"
        files, calls = front.keys() | worker.keys(), sum([*front.values(), *worker.values()])
        if len(files) <= MAX_FILES and calls <= MAX_CALLS:
            return
    pytest.fail(f"{len(files)} files, {calls} calls: {front}, {worker}")
