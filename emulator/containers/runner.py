"""The interface of container runners. A runner starts a container and returns a handle to it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from emulator.records import ContainerSpec

MULTI_MODELS = "com.amazonaws.sagemaker.capabilities.multi-models"
BIND_TO_PORT = "com.amazonaws.sagemaker.capabilities.accept-bind-to-port"


@dataclass(frozen=True, slots=True)
class ContainerLaunch:
    """`models` is the parent directory of all artifacts, or the model of a single-model container."""

    spec: ContainerSpec
    environment: Mapping[str, str]
    port: int
    models: Path
    log: Path


class RunningContainer(Protocol):
    @property
    def url(self) -> str: ...

    @property
    def models(self) -> str:
        """The path of `ContainerLaunch.models` inside the container."""
        ...

    async def exited(self) -> None:
        """Returns when the container no longer runs, for whatever reason."""
        ...

    async def stop(self, grace_s: float) -> None:
        """Sends SIGTERM, then SIGKILL after the grace period. May be called more than once.

        No process of the container is left afterwards.
        """
        ...


class ContainerRunner(Protocol):
    async def check(self, spec: ContainerSpec, labels: Sequence[str]) -> None:
        """Raises DeploymentFailed if the image does not set each of the labels to true."""
        ...

    async def start(self, launch: ContainerLaunch) -> RunningContainer: ...
