"""The notebooks run unchanged, and are saved with their output and plots."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.notebooks.execute import NOTEBOOKS, names, read

SAID = {
    "01_five_models_local.ipynb": ("POSITIVE", "cold", "ModelCacheHit"),
    "02_deploy_to_sagemaker.ipynb": ("InService", "NEGATIVE", "ml.g5.xlarge", "deleted"),
    "03_ab_and_scaling.ipynb": ("challenger", "instances: 2"),
}


def run(name: str, into: Path) -> Any:
    """Run the notebook in a separate process without a platform: it starts its own, as for a reader."""
    environment = {key: value for key, value in os.environ.items() if not key.startswith("AWS_")}
    command = [sys.executable, "-m", "tests.notebooks.execute", "--into", str(into), name]
    done = subprocess.run(
        command, cwd=NOTEBOOKS.parent, env=environment, capture_output=True, text=True, timeout=150
    )
    assert done.returncode == 0, done.stderr
    return read(name, into)


def printed(notebook: Any) -> str:
    return "".join(
        output.get("text", "") for cell in notebook.cells for output in cell.get("outputs", [])
    )


def plots(notebook: Any) -> int:
    return sum(
        "image/png" in output.get("data", {})
        for cell in notebook.cells
        for output in cell.get("outputs", [])
    )


@pytest.mark.timeout(180)
@pytest.mark.parametrize("name", names())
def test_a_notebook(name: str, tmp_path: Path) -> None:
    """A new run and the saved notebook have the expected words and the same number of plots."""
    fresh, stored = run(name, tmp_path), read(name)
    for each in (fresh, stored):
        text = printed(each)
        assert [word for word in SAID[name] if word not in text] == []
    assert plots(fresh) == plots(stored)
    assert plots(stored) >= (name != "02_deploy_to_sagemaker.ipynb")


def test_there_is_one_of_each() -> None:
    assert names() == sorted(SAID)
