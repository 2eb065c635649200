"""One instance: the containers of a model, running, in the order of its pipeline.

Everything it has is under one directory; after `stop` only the containers' logs are left there.
"""

import asyncio
import itertools
import random
import shutil
import socket
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from secrets import token_hex

from emulator.account import DEFAULT_REGION
from emulator.containers.artifact_cache import ArtifactCache, S3Downloader, S3Location
from emulator.containers.client import ConnectionBroken, ContainerClient, ContainerResponse
from emulator.containers.multi_model import MultiModelContainer
from emulator.containers.process_runner import (
    BIND_TO_PORT,
    MULTI_MODELS,
    ContainerLaunch,
    ContainerRunner,
    RunningContainer,
)
from emulator.containers.single_model import SingleModelContainer
from emulator.hosting.cleanup import Cleanup, run_all
from emulator.interfaces import DeploymentFailed, Invocation, InvocationFailed
from emulator.invocation_errors import ContainerErrors
from emulator.limits import GIB, Limits
from emulator.metrics import CloudWatchMetrics
from emulator.records import ContainerSpec, VariantSpec

_SAFE_PORTS = "25000-25999"
# Multi-model-server refuses those from 32767 on, which is where a kernel takes its own from.
_PORTS = range(26_000, 32_000)


def _ports() -> Iterator[int]:
    """Round and round, from anywhere: no two instances, nor two platforms, are after the same one."""
    start = random.randrange(len(_PORTS))
    return itertools.cycle([*_PORTS[start:], *_PORTS[:start]])


@dataclass(frozen=True, slots=True)
class HostingContext:
    """What all instances share."""

    runner: ContainerRunner
    objects: S3Downloader
    metrics: CloudWatchMetrics
    root: Path
    limits: Limits
    region: str = DEFAULT_REGION
    clock: Callable[[], float] = time.time
    cleanup: Cleanup = field(default_factory=Cleanup)
    ports: Iterator[int] = field(default_factory=_ports)


@dataclass(frozen=True, slots=True)
class HostedContainer:
    running: RunningContainer
    server: ContainerClient
    model: MultiModelContainer | SingleModelContainer
    origin: ContainerErrors
    multi_model: bool

    async def healthy(self, within_s: float) -> bool:
        """SageMaker asks for the list as well where models come and go."""
        paths = ("/ping", "/models") if self.multi_model else ("/ping",)
        for path in paths:
            if not await self.server.answers(path, within_s):
                return False
        return True


class Instance:
    def __init__(self, site: HostingContext, endpoint: str, variant: VariantSpec) -> None:
        self.id = f"i-{token_hex(8)}"
        self.outstanding = 0
        self._site = site
        self._endpoint = endpoint
        self._variant = variant
        self._limits = _limits(site.limits, variant)
        self._directory = site.root / self.id
        self._containers: list[HostedContainer] = []
        self._quiet = asyncio.Event()
        self._quiet.set()

    async def start(self) -> None:
        """Return in service. Raises DeploymentFailed; nothing runs then."""
        self._directory.mkdir(parents=True)
        specs = self._variant.model.containers
        try:
            for spec in specs:
                _check_url(spec.model_data_url)
            for number, spec in enumerate(specs, start=1):
                name = spec.hostname or ("primary" if len(specs) == 1 else f"container-{number}")
                await self._add(spec, name, piped=len(specs) > 1)
            await run_all(self._await_health(c) for c in self._containers)
        except BaseException:  # also a cancelled start leaves no container behind
            await self.stop()
            raise

    async def stop(self) -> None:
        """Goes on to the end also when the caller is cancelled."""
        await self._site.cleanup.run(self._stop())

    async def drain(self) -> None:
        """Return when no request is under way; the caller has seen to it that none comes."""
        await self._quiet.wait()

    async def failed(self) -> None:
        """Return when a container has ended, or has not answered its pings for some time."""
        watches = {asyncio.create_task(self._fails(c)) for c in self._containers}
        try:
            await asyncio.wait(watches, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for watch in watches:
                watch.cancel()
            await asyncio.gather(*watches, return_exceptions=True)

    async def healthy(self) -> bool:
        checks = (c.healthy(self._limits.ping_s) for c in self._containers)
        return bool(self._containers) and all(await asyncio.gather(*checks))

    def holds(self, target: str | None) -> bool:
        return all(container.model.holds(target) for container in self._containers)

    async def invoke(self, invocation: Invocation) -> ContainerResponse:
        """The last container's answer. Raises InvocationFailed and ConnectionBroken."""
        self.outstanding += 1
        self._quiet.clear()
        try:
            return await self._pipe(invocation)
        except InvocationFailed as failure:
            if not self._containers:  # its files went while it was at it: no fault of the request's
                raise ConnectionBroken("the instance has been stopped") from failure
            raise
        finally:
            self.outstanding -= 1
            if not self.outstanding:
                self._quiet.set()

    def hung_up(self) -> InvocationFailed:
        name = "primary" if len(self._variant.model.containers) == 1 else "container-1"
        return self._origin(name).hung_up()

    async def _pipe(self, invocation: Invocation) -> ContainerResponse:
        """A body goes through as it comes, with its content type; Accept is for the last one."""
        body, headers = invocation.body, dict(invocation.headers)
        accept = headers.pop("accept", None)
        seconds = 0.0
        containers = list(self._containers)
        if not containers:
            raise ConnectionBroken("the instance has been stopped")
        for container in containers:
            if container is containers[-1] and accept is not None:
                headers["accept"] = accept
            answer = await container.model.invoke(invocation.target_model, body, headers)
            seconds += answer.seconds
            if not answer.ok:
                raise container.origin.model_error(answer.status, answer.body)
            body = answer.body
            headers.pop("content-type", None)
            if content_type := answer.headers.get("content-type"):
                headers["content-type"] = content_type
        return replace(answer, seconds=seconds)

    async def _add(self, spec: ContainerSpec, name: str, *, piped: bool) -> None:
        labels = [MULTI_MODELS] if spec.multi_model else []
        await self._site.runner.check(spec, [*labels, BIND_TO_PORT] if piped else labels)
        models = self._directory / name if piped else self._directory / "models"
        models.mkdir()
        if spec.model_data_url and not spec.multi_model:
            models = await self._fetched(spec.model_data_url, models)
        port = _free_port(self._site.ports)
        launch = ContainerLaunch(
            spec=spec,
            environment=self._environment(spec, port),
            port=port,
            models=models,
            log=self._directory / f"{name}.log",
        )
        running = await self._site.runner.start(launch)
        server, origin = ContainerClient(running.url), self._origin(name)
        model: MultiModelContainer | SingleModelContainer
        if spec.multi_model:
            meter = self._site.metrics.meter(self._endpoint, self._variant.name)
            model = MultiModelContainer(
                spec, server, running, self._site.objects, models, self._limits, meter, origin
            )
        else:
            model = SingleModelContainer(server, self._limits, origin)
        self._containers.append(HostedContainer(running, server, model, origin, spec.multi_model))

    async def _fetched(self, url: str, root: Path) -> Path:
        """The one model of a single-model container, unpacked before it starts."""

        async def nothing_to_free() -> bool:
            return False

        store = ArtifactCache(
            self._site.objects,
            root,
            self._limits.volume_nbytes,
            in_use=lambda _: True,
            free=nothing_to_free,
        )
        try:
            async with asyncio.timeout(self._limits.download_s):
                return (await store.fetch(S3Location.parse(url))).directory
        except InvocationFailed as failure:
            raise DeploymentFailed(failure.message) from None
        except TimeoutError:
            raise DeploymentFailed(f"Downloading model data from {url} timed out.") from None

    def _environment(self, spec: ContainerSpec, port: int) -> dict[str, str]:
        """What SageMaker sets goes before what the model asks for."""
        given = {
            "AWS_REGION": self._site.region,
            "AWS_DEFAULT_REGION": self._site.region,
            "AWS_EXECUTION_ENV": "AWS_ECS_EC2",
            "HOSTNAME": "model.aws.local",
            **spec.environment,
            "SAGEMAKER_BIND_TO_PORT": str(port),
            "SAGEMAKER_SAFE_PORT_RANGE": _SAFE_PORTS,
        }
        return given | {"SAGEMAKER_MULTI_MODEL": "true"} if spec.multi_model else given

    async def _await_health(self, container: HostedContainer) -> None:
        ended = asyncio.ensure_future(container.running.ended())
        try:
            async with asyncio.timeout(self._limits.startup_s):
                await self._good_pings(container, ended)
        except TimeoutError:
            raise DeploymentFailed(
                f"The {container.origin.container} container for production variant "
                f"{self._variant.name} did not pass the ping health check. Please check CloudWatch "
                f"logs for this endpoint. (Locally: {self._directory})"
            ) from None
        finally:
            ended.cancel()

    async def _good_pings(self, container: HostedContainer, ended: asyncio.Future[None]) -> None:
        """Return after as many as it takes in a row. Raises TimeoutError when it has ended."""
        good = 0
        while True:
            good = good + 1 if await container.healthy(self._limits.ping_s) else 0
            if good == self._limits.good_pings:
                return
            await asyncio.wait({ended}, timeout=self._limits.startup_period_s)
            if ended.done():
                raise TimeoutError

    async def _fails(self, container: HostedContainer) -> None:
        """Waiting for the end of the container is what passes the time between two pings."""
        ended = asyncio.ensure_future(container.running.ended())
        failures = 0
        try:
            while failures < self._limits.failed_pings:
                await asyncio.wait({ended}, timeout=self._limits.ping_period_s)
                if ended.done():
                    return
                well = await container.server.answers("/ping", self._limits.ping_s)
                failures = 0 if well else failures + 1
        finally:
            ended.cancel()

    async def _stop(self) -> None:
        containers, self._containers = self._containers, []
        await asyncio.gather(*(self._end(container) for container in containers))
        for directory in self._directory.glob("*"):
            if directory.is_dir():
                await asyncio.to_thread(shutil.rmtree, directory, True)

    async def _end(self, container: HostedContainer) -> None:
        await container.model.close()
        await container.server.close()
        await container.running.stop(self._limits.stop_s)

    def _origin(self, container: str) -> ContainerErrors:
        return ContainerErrors(self._endpoint, container, self._site.region)


def _limits(limits: Limits, variant: VariantSpec) -> Limits:
    """With the variant's own figures where it has some."""
    own: dict[str, float] = {}
    if variant.startup_timeout_s is not None:
        own["startup_s"] = variant.startup_timeout_s
    if variant.download_timeout_s is not None:
        own["download_s"] = variant.download_timeout_s
    if variant.volume_size_gb is not None:
        own["volume_nbytes"] = variant.volume_size_gb * GIB
    return replace(limits, **own)  # type: ignore[arg-type]  # volume_nbytes is an int above


def _check_url(url: str | None) -> None:
    try:
        S3Location.parse(url or "s3://none")
    except ValueError as error:
        raise DeploymentFailed(str(error)) from None


def _free_port(ports: Iterator[int]) -> int:
    for port in itertools.islice(ports, len(_PORTS)):
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    raise DeploymentFailed("No port is free for the container.")
