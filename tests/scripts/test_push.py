"""Errors of build_and_push.sh before the build, and ecr.py with the local platform's ECR.

tests/image tests the push itself, which needs a container engine.
"""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from subprocess import CompletedProcess

import pytest

from emulator.hosting.fleet_hosting import create_hosting
from emulator.platform import LocalSageMaker
from tests.scripts.runs import LIMIT_S, REPOSITORY, command, run, without_aws

MANIFEST = '{"mediaType": "application/vnd.docker.distribution.manifest.v2+json", "layers": []}'
IDENTITY = ["-c", "user.name=test", "-c", "user.email=test@example.com"]


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A checkout with the scripts and the files of the build, all committed."""
    for folder in ("scripts", "image"):
        compiled = shutil.ignore_patterns("__pycache__")  # other tests may be writing there
        shutil.copytree(REPOSITORY / folder, tmp_path / folder, ignore=compiled)
    git(tmp_path, "init", "--quiet")
    git(tmp_path, "add", ".")
    git(tmp_path, *IDENTITY, "commit", "--quiet", "--message", "all")
    return tmp_path


def git(folder: Path, *words: str) -> None:
    subprocess.run(["git", *words], cwd=folder, check=True)


def push(folder: Path, *words: str, **environment: str) -> "CompletedProcess[str]":
    return subprocess.run(
        [str(folder / "scripts/build_and_push.sh"), *words],
        env=without_aws() | {"PYTHON": sys.executable, **environment},
        capture_output=True,
        text=True,
        timeout=LIMIT_S,
    )


def test_help_is_the_head_of_the_script() -> None:
    done = push(REPOSITORY, "--help")
    assert done.returncode == 0
    assert "scripts/build_and_push.sh [cpu|gpu]" in done.stdout
    assert "set -" not in done.stdout


@pytest.mark.parametrize("words", [["tpu"], ["cpu", "gpu"]])
def test_what_it_does_not_understand(words: list[str]) -> None:
    done = push(REPOSITORY, *words)
    assert done.returncode == 2
    assert "REPOSITORY=" in done.stderr


def test_files_that_no_commit_has(checkout: Path) -> None:
    (checkout / "image/new").touch()
    done = push(checkout, REGISTRY="127.0.0.1:1")
    assert done.returncode == 1
    assert "not committed" in done.stderr
    assert "?? image/new" in done.stderr


@pytest.mark.parametrize(
    ("region", "advice"),
    [({"AWS_DEFAULT_REGION": "us-east-1"}, "run `aws configure`"), ({}, "set AWS_DEFAULT_REGION")],
)
def test_no_account_is_said_before_the_build(
    region: dict[str, str], advice: str, checkout: Path
) -> None:
    done = push(checkout, **region)
    assert done.returncode == 1
    assert advice in done.stderr
    assert "Traceback" not in done.stderr
    assert done.stdout == ""


@pytest.fixture(scope="module")
def platform() -> Iterator[LocalSageMaker]:
    environ = {k: v for k, v in os.environ.items() if not k.startswith("AWS_")}
    with LocalSageMaker(lambda url: create_hosting(s3=url), environ=environ) as aws:
        yield aws


def printed(words: list[str], folder: Path, platform: LocalSageMaker) -> list[str]:
    done = run(words, folder, platform.environment)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def test_the_repository_is_made_once(platform: LocalSageMaker, tmp_path: Path) -> None:
    uris = [printed(command("ecr.py"), tmp_path, platform) for _ in range(2)]
    (described,) = platform.client("ecr").describe_repositories()["repositories"]
    assert uris == [[described["repositoryUri"]]] * 2
    assert described["repositoryName"] == "mme"
    assert described["imageTagMutability"] == "IMMUTABLE"
    assert described["imageScanningConfiguration"] == {"scanOnPush": True}


def test_tags(platform: LocalSageMaker, tmp_path: Path) -> None:
    ecr, words = platform.client("ecr"), ["python", "scripts/ecr.py", "tags", "tagged"]
    ecr.create_repository(repositoryName="tagged")
    assert printed(words, tmp_path, platform) == []
    ecr.put_image(repositoryName="tagged", imageManifest=MANIFEST, imageTag="1.2.3-cpu")
    assert printed(words, tmp_path, platform) == ["1.2.3-cpu"]


def test_the_password_is_that_of_the_user_aws(platform: LocalSageMaker, tmp_path: Path) -> None:
    words = ["python", "scripts/ecr.py", "password"]
    assert printed(words, tmp_path, platform) == ["123456789012-auth-token"]


def test_a_name_that_ecr_refuses(platform: LocalSageMaker, tmp_path: Path) -> None:
    done = run(["python", "scripts/ecr.py", "repository", "A!"], tmp_path, platform.environment)
    assert done.returncode == 1
    assert done.stderr.startswith("ecr.py: ")
