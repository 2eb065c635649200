"""The built image as a target: started with docker or podman, as the platform starts it."""

import functools
import json
import os
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.contract.targets import REPOSITORY, ServerProcess, settings_of
from tests.contract.waiting import until

CONFIGURATION = REPOSITORY / "image/containers.conf"  # a setting of podman; docker ignores it
IMAGE = os.environ.get("IMAGE", "localhost/mme:cpu")
# as on the platform, except for the network, by which the tests reach the container
OPTIONS = ("--network", "host", "--read-only", "--tmpfs", "/tmp")
NOT_INSIDE = ("PATH", "HOME", "PYTHONDONTWRITEBYTECODE")


@functools.cache
def engine() -> str:
    """docker if its engine responds, otherwise podman."""
    try:
        subprocess.run(["docker", "info"], check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        return "podman"
    return "docker"


def environment() -> dict[str, str]:
    return os.environ | {"CONTAINERS_CONF": str(CONFIGURATION)}


def ask(*arguments: str) -> str:
    """Run a command of the engine. Returns its output."""
    command = [engine(), *arguments]
    done = subprocess.run(command, env=environment(), capture_output=True, text=True)
    if done.returncode:
        pytest.fail(f"{' '.join(command)}: {done.stderr}")
    return done.stdout


def inspected() -> dict[str, Any]:
    """The image's configuration; podman keeps the health check beside it."""
    (document,) = json.loads(ask("image", "inspect", IMAGE))
    configuration: dict[str, Any] = document | document["Config"]
    return configuration


class Container(ServerProcess):
    """`docker run IMAGE serve` in the foreground: it forwards signals and exits with the server's status."""

    def __init__(
        self,
        changes: Mapping[str, str | None],
        root: Path,
        scratch: Path,
        options: Sequence[str],
        built: str,
    ) -> None:
        settings = settings_of(changes, root, scratch)
        self.name = f"mme-{settings.get('SAGEMAKER_BIND_TO_PORT', 'default')}"
        inside = {name: value for name, value in settings.items() if name not in NOT_INSIDE}
        variables = [part for pair in inside.items() for part in ("--env", "=".join(pair))]
        seen = {str(root), settings.get("MME_MODEL_DIR", str(root))}
        mounts = [part for path in seen for part in ("--volume", f"{path}:{path}:ro")]
        command = [engine(), "run", "--rm", "--name", self.name, *OPTIONS, *options, *mounts]
        self._pid: int | None = None
        super().__init__([*command, *variables, built, "serve"], settings, scratch, environment())

    @property
    def pid(self) -> int | None:
        """Process id of the container's first process, on the host."""
        if self._pid is None:
            self._pid = until(lambda: int(ask("inspect", "--format", "{{.State.Pid}}", self.name)))
        return self._pid


def launch_image(
    changes: Mapping[str, str | None],
    root: Path,
    scratch: Path,
    options: Sequence[str] = (),
    built: str = IMAGE,
) -> Container:
    return Container(changes, root, scratch, options, built)
