"""The command `python -m emulator up`, from its start to a signal."""

import json
import os
import select
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import boto3
import pytest


@pytest.fixture(params=[signal.SIGINT, signal.SIGTERM], ids=["SIGINT", "SIGTERM"])
def stop_signal(request: pytest.FixtureRequest) -> signal.Signals:
    chosen: signal.Signals = request.param
    return chosen


@pytest.fixture
def emulator() -> Iterator[subprocess.Popen[str]]:
    bare = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}
    command = [sys.executable, "-m", "emulator", "up", "--log-level", "WARNING"]
    with subprocess.Popen(command, env=bare, stdout=subprocess.PIPE, text=True) as process:
        yield process
        process.kill()


def test_exports_ready_and_clean_shutdown(
    emulator: subprocess.Popen[str], stop_signal: signal.Signals
) -> None:
    assert emulator.stdout is not None
    exports = {}
    for line in iter(emulator.stdout.readline, "ready\n"):
        assert line, "ended before it was ready"
        name, _, value = line.removeprefix("export ").strip().partition("=")
        exports[name] = value
    url = exports["AWS_ENDPOINT_URL_SAGEMAKER"]
    sagemaker = boto3.client(
        "sagemaker",
        endpoint_url=url,
        region_name=exports["AWS_DEFAULT_REGION"],
        aws_access_key_id=exports["AWS_ACCESS_KEY_ID"],
        aws_secret_access_key=exports["AWS_SECRET_ACCESS_KEY"],
    )
    assert sagemaker.list_endpoints()["Endpoints"] == []
    emulator.send_signal(stop_signal)
    assert emulator.wait(timeout=20) == 0
    for name in ("AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_SAGEMAKER_RUNTIME"):
        with pytest.raises(urllib.error.URLError):
            urllib.request.urlopen(exports[name], timeout=1)


def test_containers_end_with_a_platform_that_is_killed(tmp_path: Path) -> None:
    """Processes and docker's containers, also one that ignores SIGTERM."""
    state = tmp_path / "docker"
    state.mkdir()
    platform = Path(__file__).with_name("doomed_platform.py")
    command = [sys.executable, str(platform), str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        pids = json.loads(process.stdout.readline())
        assert len(pids) == 3
        process.kill()
    for pid in pids:
        _wait_for_end(pid)
    assert not list(state.glob("*.json"))


def _wait_for_end(pid: int) -> None:
    with suppress(ProcessLookupError):
        ended, _, _ = select.select([os.pidfd_open(pid)], [], [], 15)
        assert ended, f"process {pid} still runs"
