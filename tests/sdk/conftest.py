"""A local SageMaker for the SDKs, run by the project's environment and called over HTTP.

These tests run in separate environments (`make test-sdk`), because the dependencies of the SDKs conflict.
`MME_PYTHON` names the interpreter with the platform and the container.
"""

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import boto3
import pytest

REPOSITORY = Path(__file__).parents[2]
PYTHON = os.environ.get("MME_PYTHON", str(REPOSITORY / ".venv/bin/python"))
BUCKET = "sdk-models"


@pytest.fixture(scope="session")
def options() -> list[str]:
    """Further options of `emulator up`."""
    return []


@pytest.fixture(scope="session")
def platform(options: list[str]) -> Iterator[str]:
    """Starts the platform, sets the environment variables that it prints, and creates a bucket."""
    up = [PYTHON, "-m", "emulator", "up", *options]
    with subprocess.Popen(up, cwd=REPOSITORY, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            for line in iter(process.stdout.readline, "ready\n"):
                assert line, "the platform ended before it was ready"
                name, _, value = line.strip().removeprefix("export ").partition("=")
                os.environ[name] = value
            boto3.client("s3").create_bucket(Bucket=BUCKET)
            yield BUCKET
        finally:
            process.terminate()


@pytest.fixture(scope="session")
def archives(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The five models' `.tar.gz`."""
    directory = tmp_path_factory.mktemp("archives")
    package = [PYTHON, str(REPOSITORY / "examples/five_models/package.py"), str(directory)]
    subprocess.run(package, check=True, stdout=subprocess.DEVNULL)
    return directory
