"""Containers by the docker command line, one `docker run` each.

Models are mounted read-only at the path where SageMaker mounts them.
"""

import asyncio
import json
import secrets
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from emulator.containers.leftovers import Leftovers, leftovers
from emulator.containers.runner import ContainerLaunch, RunningContainer
from emulator.interfaces import DeploymentFailed
from emulator.records import ContainerSpec

_MODELS = "/opt/ml/models"
_MODEL = "/opt/ml/model"
_REMOVE = ("rm", "--force", "--volumes")


@dataclass(frozen=True, slots=True)
class DockerRunner:
    """`docker` is the command with its global options; `options` are for `docker run` (`--gpus=all`)."""

    docker: Sequence[str] = ("docker",)
    options: Sequence[str] = ()
    leftovers: Leftovers = field(default_factory=leftovers)

    async def check(self, spec: ContainerSpec, labels: Sequence[str]) -> None:
        present = await self._labels(spec.image)
        missing = [f"{label}=true" for label in labels if present.get(label, "").lower() != "true"]
        if missing:
            raise DeploymentFailed(
                f"Your Ecr Image {spec.image} does not contain required {', '.join(missing)} "
                "Docker label(s)."
            )

    async def start(self, launch: ContainerLaunch) -> RunningContainer:
        name = f"mme-{secrets.token_hex(6)}"
        self.leftovers.add_command(name, [*self.docker, *_REMOVE, name])
        await self._docker("run", "--detach", "--name", name, *self._options(launch))
        container = DockerContainer(self, name, launch)
        container.follow_logs(launch)
        return container

    def _options(self, launch: ContainerLaunch) -> list[str]:
        inside = _MODELS if launch.spec.multi_model else _MODEL
        options = [f"--publish=127.0.0.1:{launch.port}:{launch.port}"]
        options.append(f"--volume={launch.models.resolve()}:{inside}:ro")
        options += [f"--env={name}={value}" for name, value in launch.environment.items()]
        return [*options, *self.options, launch.spec.image, "serve"]

    async def _labels(self, image: str) -> dict[str, str]:
        inspect = ("image", "inspect", "--format", "{{json .Config.Labels}}", image)
        try:
            text = await self._docker(*inspect)
        except DeploymentFailed:
            await self._docker("pull", "--quiet", image)
            text = await self._docker(*inspect)
        labels: dict[str, Any] | None = json.loads(text)
        return labels or {}

    async def _docker(self, *arguments: str) -> str:
        """Returns the command's stdout. Raises DeploymentFailed with its stderr."""
        process = await self.process(*arguments, stdout=asyncio.subprocess.PIPE)
        out, err = await process.communicate()
        if process.returncode:
            raise DeploymentFailed(f"docker {arguments[0]}: {err.decode(errors='replace').strip()}")
        return out.decode()

    async def process(self, *arguments: str, stdout: Any) -> asyncio.subprocess.Process:
        return await asyncio.create_subprocess_exec(
            *self.docker,
            *arguments,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=stdout,
            stderr=asyncio.subprocess.PIPE if stdout == asyncio.subprocess.PIPE else stdout,
            start_new_session=True,
        )


class DockerContainer:
    def __init__(self, runner: DockerRunner, name: str, launch: ContainerLaunch) -> None:
        self._runner = runner
        self._name = name
        self._stopped = False
        self.url = f"http://127.0.0.1:{launch.port}"
        self.models = _MODELS if launch.spec.multi_model else _MODEL
        self._logs: asyncio.Task[None] | None = None

    def follow_logs(self, launch: ContainerLaunch) -> None:
        self._logs = asyncio.create_task(self._copy_logs(launch))

    async def exited(self) -> None:
        process = await self._runner.process("wait", self._name, stdout=asyncio.subprocess.DEVNULL)
        try:
            await process.wait()
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()

    async def stop(self, grace_s: float) -> None:
        if self._stopped:
            return
        self._stopped = True
        for command in (("stop", "-t", f"{grace_s:.0f}"), _REMOVE):
            process = await self._runner.process(
                *command, self._name, stdout=asyncio.subprocess.DEVNULL
            )
            await process.wait()
        self._runner.leftovers.remove(self._name)
        if self._logs is not None:
            await self._logs

    async def _copy_logs(self, launch: ContainerLaunch) -> None:
        """`docker logs --follow` exits together with the container."""
        with launch.log.open("ab") as log:
            process = await self._runner.process("logs", "--follow", self._name, stdout=log)
            await process.wait()
