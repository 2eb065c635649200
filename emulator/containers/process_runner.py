"""Containers as plain local processes, without images or mounts."""

import asyncio
import os
import signal
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field

from emulator.containers.leftovers import Leftovers, leftovers
from emulator.containers.runner import ContainerLaunch, RunningContainer
from emulator.interfaces import DeploymentFailed
from emulator.records import ContainerSpec

# A process needs these to find its interpreter and libraries. No other variable is inherited.
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
_MODELS_VARIABLE = "MME_MODEL_ROOT"  # the parent directory of all artifacts
_MODEL_VARIABLE = "MME_MODEL_DIR"  # the model of a single-model container


@dataclass(frozen=True, slots=True)
class ProcessRunner:
    """Starts `command`, or the entry of `commands` for an image. Processes have no labels to check.

    Nothing is mounted; an environment variable names the directory of the models instead.
    """

    command: Sequence[str] = (sys.executable, "-m", "container", "serve")
    commands: Mapping[str, Sequence[str]] = field(default_factory=dict)
    leftovers: Leftovers = field(default_factory=leftovers)

    async def check(self, spec: ContainerSpec, labels: Sequence[str]) -> None:
        return

    async def start(self, launch: ContainerLaunch) -> RunningContainer:
        command = self.commands.get(launch.spec.image, self.command)
        variable = _MODELS_VARIABLE if launch.spec.multi_model else _MODEL_VARIABLE
        environment = {name: os.environ[name] for name in _INHERITED if name in os.environ}
        environment |= {**launch.environment, variable: str(launch.models)}
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
        self.leftovers.add_group(process.pid)
        return ContainerProcess(process, launch, self.leftovers)


class ContainerProcess:
    """A process in its own session, so that its children are signalled as well."""

    def __init__(
        self, process: asyncio.subprocess.Process, launch: ContainerLaunch, leftovers: Leftovers
    ) -> None:
        self._process = process
        self._leftovers = leftovers
        self.url = f"http://127.0.0.1:{launch.port}"
        self.models = str(launch.models)

    @property
    def pid(self) -> int:
        return self._process.pid

    async def exited(self) -> None:
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
        self._leftovers.remove(self._process.pid)

    def _signal(self, number: signal.Signals) -> None:
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, number)
