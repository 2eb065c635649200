"""The documents are correct: their commands run, their links exist, their lists are complete."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from container import settings
from tests.contract.targets import free_port

REPOSITORY = Path(__file__).parents[2]
DOCUMENTS = [*REPOSITORY.glob("*.md"), *REPOSITORY.glob("docs/*.md")]
EXECUTED = re.compile(r"<!-- executed by [^>]*-->\n```bash\n(.*?)```", re.DOTALL)
LINK = re.compile(r"\]\((?!https?:)([^)#\s]+)(?:#[^)]*)?\)")


def scripts() -> dict[str, str]:
    """The commands of each document, to be run one after the other in one shell."""
    found = {file.name: EXECUTED.findall(file.read_text(encoding="utf-8")) for file in DOCUMENTS}
    return {name: "\n".join(blocks) for name, blocks in found.items() if blocks}


@pytest.mark.parametrize("document", scripts())
def test_commands_run_as_written(document: str) -> None:
    """With two changes: a free port, and the Python of the tests."""
    port = str(free_port())
    script = scripts()[document].replace("8080", port).replace(".venv/bin/python", sys.executable)
    environment = os.environ | {"SAGEMAKER_BIND_TO_PORT": port, "MME_DEVICE": "cpu"}
    command = ["bash", "-eu", "-c", script]
    done = subprocess.run(
        command, cwd=REPOSITORY, env=environment, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_readme_is_among_them() -> None:
    assert scripts()["README.md"].count("curl") >= 6


def test_every_link_leads_to_a_file() -> None:
    for document in DOCUMENTS:
        for target in LINK.findall(document.read_text(encoding="utf-8")):
            assert (document.parent / target).exists(), f"{document.name}: {target}"


def test_every_setting_is_documented() -> None:
    text = (REPOSITORY / "docs/configuration.md").read_text(encoding="utf-8")
    names = re.findall(r"\b(?:MME|SAGEMAKER|HF)_[A-Z_]+", settings.describe())
    assert names
    assert {name for name in names if f"`{name}`" not in text} == set()


def test_the_demo_runs() -> None:
    """`make demo` without creating the environment: of twenty invocations half find their model in memory,
    loads are refused, models are unloaded, and every invocation is answered."""
    output = run("scripts/demo.py")
    for answer in ("POSITIVE", "Mein Name ist Wolfgang", "Siemens will open", "B-PER", "Business"):
        assert answer in output
    assert re.search(r"load refused target=\w+\.tar\.gz status=507", output)
    assert re.search(r"Invocations +Sum +20\.00", output)
    assert re.search(r"ModelCacheHit +Average +0\.50", output)
    assert re.search(r"ModelUnloadingTime +SampleCount +[1-9]", output)


def run(script: str) -> str:
    done = subprocess.run(
        [sys.executable, script], cwd=REPOSITORY, capture_output=True, text=True, timeout=180
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr
