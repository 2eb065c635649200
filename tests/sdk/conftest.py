"""A local SageMaker for the SDKs: run by the project's environment, met by theirs over HTTP alone.

These tests run in environments of their own (`make test-sdk`): the SDKs' dependencies do not go together
with each other's. `MME_PYTHON` names the interpreter that has the platform and the container.
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
    """The exports are set as a user would set them; a bucket is there."""
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
