"""What starts containers: `ContainerRunner`, and the one that starts plain processes.

A started container is a `Running`; nothing of it is left after `stop`.
"""

import asyncio
import os
import signal
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from emulator.interfaces import DeploymentFailed
from emulator.records import ContainerSpec

MULTI_MODELS = "com.amazonaws.sagemaker.capabilities.multi-models"
BIND_TO_PORT = "com.amazonaws.sagemaker.capabilities.accept-bind-to-port"

# Without these a process finds neither its interpreter nor its libraries; all else stays behind.
_INHERITED = (
    "PATH",
    "HOME",
    "LANG",
    "LC_ALL",
    "TMPDIR",
    "VIRTUAL_ENV",
    "PYTHONPATH",
    "LD_LIBRARY_PATH",
    "JAVA_HOME",
    "CUDA_VISIBLE_DEVICES",
)


@dataclass(frozen=True, slots=True)
class ContainerLaunch:
    """`models` is the directory above all artifacts, or of the one model of a single-model container."""

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
        """`ContainerLaunch.models` as the container sees it."""
        ...

    async def ended(self) -> None:
        """Return when the container is no longer running, by whatever cause."""
        ...

    async def stop(self, grace_s: float) -> None:
        """SIGTERM, and SIGKILL to what is left after the grace. May be called again."""
        ...


class ContainerRunner(Protocol):
    async def check(self, spec: ContainerSpec, labels: Sequence[str]) -> None:
        """Raises DeploymentFailed where the image does not set one of the labels to true."""
        ...

    async def start(self, launch: ContainerLaunch) -> RunningContainer: ...


@dataclass(frozen=True, slots=True)
class ProcessRunner:
    """Starts `command`, or what `commands` has for an image; there are no labels to check.

    Processes share one file system, so each is told where its models are instead of mounting them:
    the directory above all artifacts under `root_variable`, a single model's under `model_variable`.
    """

    command: Sequence[str] = (sys.executable, "-m", "container", "serve")
    commands: Mapping[str, Sequence[str]] = field(default_factory=dict)
    root_variable: str = "MME_MODEL_ROOT"
    model_variable: str = "MME_MODEL_DIR"
    environment: Mapping[str, str] = field(default_factory=dict)

    async def check(self, spec: ContainerSpec, labels: Sequence[str]) -> None:
        return

    async def start(self, launch: ContainerLaunch) -> RunningContainer:
        command = self.commands.get(launch.spec.image, self.command)
        variable = self.root_variable if launch.spec.multi_model else self.model_variable
        environment = {name: os.environ[name] for name in _INHERITED if name in os.environ}
        environment |= {**self.environment, **launch.environment, variable: str(launch.models)}
        try:
            with launch.log.open("ab") as log:
                process = await asyncio.create_subprocess_exec(
                    *command,
                    env=environment,
                    stdin=asyncio.subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    start_new_session=True,
                )
        except OSError as error:
            raise DeploymentFailed(f"The container's command did not start: {error}") from error
        return ContainerProcess(process, launch)


class ContainerProcess:
    """A session of its own: whatever the process started ends with it."""

    def __init__(self, process: asyncio.subprocess.Process, launch: ContainerLaunch) -> None:
        self._process = process
        self.url = f"http://127.0.0.1:{launch.port}"
        self.models = str(launch.models)

    @property
    def pid(self) -> int:
        return self._process.pid

    async def ended(self) -> None:
        await self._process.wait()

    async def stop(self, grace_s: float) -> None:
        self._signal(signal.SIGTERM)
        try:
            async with asyncio.timeout(grace_s):
                await self._process.wait()
        except TimeoutError:
            pass
        finally:
            self._signal(signal.SIGKILL)
        await self._process.wait()

    def _signal(self, number: signal.Signals) -> None:
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, number)
