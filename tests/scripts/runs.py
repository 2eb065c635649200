"""Runs scripts with the command in their docstring, so that it is tested."""

import ast
import os
import shlex
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

REPOSITORY = Path(__file__).parents[2]
SCRIPTS = REPOSITORY / "scripts"
LIMIT_S = 120


def command(script: str) -> list[str]:
    """The first paragraph of the script's docstring, split into words like a shell command."""
    text = ast.get_docstring(ast.parse((SCRIPTS / script).read_text(encoding="utf-8")))
    assert text
    words = shlex.split(text.partition("\n\n")[0].replace("\\\n", " "))
    assert words[:2] == ["python", f"scripts/{script}"]
    return words


def run(
    words: list[str], folder: Path, environment: Mapping[str, str]
) -> subprocess.CompletedProcess[str]:
    """Run in a folder that contains `scripts/`, like a checkout."""
    link = folder / "scripts"
    if not link.exists():
        link.symlink_to(SCRIPTS)
    return subprocess.run(
        [sys.executable, *words[1:]],
        cwd=folder,
        env=without_aws() | dict(environment),
        capture_output=True,
        text=True,
        timeout=LIMIT_S,
    )


def without_aws() -> dict[str, str]:
    """This process's environment without AWS settings; AWS files of this machine are not read."""
    kept = {name: v for name, v in os.environ.items() if not name.startswith("AWS_")}
    nowhere = {"AWS_CONFIG_FILE": os.devnull, "AWS_SHARED_CREDENTIALS_FILE": os.devnull}
    return {**kept, **nowhere, "AWS_EC2_METADATA_DISABLED": "true"}


def tools() -> dict[str, str]:
    """This process's environment, with the folder of this Python first on PATH."""
    return os.environ | {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
