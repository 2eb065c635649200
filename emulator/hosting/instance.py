"""One instance: the running containers of a model, in pipeline order.

Its files are in one directory; `stop` removes all but the container logs.
"""

import asyncio
import shutil
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from secrets import token_hex

from emulator.background_tasks import run_all
from emulator.containers.artifact_cache import ArtifactCache
from emulator.containers.client import ConnectionBroken, ContainerClient, ContainerResponse
from emulator.containers.multi_model import MultiModelContainer
from emulator.containers.runner import BIND_TO_PORT, MULTI_MODELS, ContainerLaunch, RunningContainer
from emulator.containers.s3 import S3Location
from emulator.containers.single_model import SingleModelContainer
from emulator.hosting.context import HostingContext
from emulator.interfaces import DeploymentFailed, Invocation, InvocationFailed
from emulator.invocation_errors import ContainerErrors
from emulator.limits import GIB, PlatformLimits
from emulator.records import ContainerSpec, VariantSpec

_SAFE_PORTS = "25000-25999"


@dataclass(frozen=True, slots=True)
class HostedContainer:
    running: RunningContainer
    client: ContainerClient
    model: MultiModelContainer | SingleModelContainer
    errors: ContainerErrors
    multi_model: bool

    async def healthy(self, timeout_s: float) -> bool:
        """SageMaker also requests the model list of multi-model containers."""
        paths = ("/ping", "/models") if self.multi_model else ("/ping",)
        for path in paths:
            if not await self.client.is_ok(path, timeout_s):
                return False
        return True


class Instance:
    def __init__(self, context: HostingContext, endpoint: str, variant: VariantSpec) -> None:
        self.id = f"i-{token_hex(8)}"
        self.outstanding = 0
        self._context = context
        self._endpoint = endpoint
        self._variant = variant
        self._limits = _limits(context.limits, variant)
        self._directory = context.root / self.id
        self._containers: list[HostedContainer] = []
        self._no_requests = asyncio.Event()
        self._no_requests.set()

    async def start(self) -> None:
        """Returns when the instance is in service. On DeploymentFailed no container is left."""
        self._directory.mkdir(parents=True)
        specs = self._variant.model.containers
        try:
            for spec in specs:
                _check_url(spec.model_data_url)
            for number, spec in enumerate(specs, start=1):
                name = spec.hostname or ("primary" if len(specs) == 1 else f"container-{number}")
                await self._start_container(spec, name, in_pipeline=len(specs) > 1)
            await run_all(self._await_health(c) for c in self._containers)
        except BaseException:  # cancellation included: no container may be left
            await self.stop()
            raise

    async def stop(self) -> None:
        """Runs to its end even if the caller is cancelled."""
        await self._context.cleanup.run(self._stop())

    async def drain(self) -> None:
        """Returns when no request is in progress. The caller must route no new ones here."""
        await self._no_requests.wait()

    async def wait_until_failed(self) -> None:
        """Returns when a container has exited or has failed its health check repeatedly."""
        watches = {asyncio.create_task(self._wait_until_failed(c)) for c in self._containers}
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
        """The last container's response. Raises InvocationFailed and ConnectionBroken."""
        self.outstanding += 1
        self._no_requests.clear()
        try:
            return await self._run_pipeline(invocation)
        except InvocationFailed as failure:
            if not self._containers:  # stopped meanwhile: another instance may serve the request
                raise ConnectionBroken("the instance has been stopped") from failure
            raise
        finally:
            self.outstanding -= 1
            if not self.outstanding:
                self._no_requests.set()

    def connection_closed(self) -> InvocationFailed:
        name = "primary" if len(self._variant.model.containers) == 1 else "container-1"
        return self._errors(name).connection_closed()

    async def _run_pipeline(self, invocation: Invocation) -> ContainerResponse:
        """Passes each response's body and content type to the next container; Accept goes to the last one."""
        body, headers = invocation.body, dict(invocation.headers)
        accept = headers.pop("accept", None)
        seconds = 0.0
        containers = list(self._containers)
        if not containers:
            raise ConnectionBroken("the instance has been stopped")
        for container in containers:
            if container is containers[-1] and accept is not None:
                headers["accept"] = accept
            response = await container.model.invoke(invocation.target_model, body, headers)
            seconds += response.seconds
            if not response.ok:
                raise container.errors.model_error(response.status, response.body)
            body = response.body
            headers.pop("content-type", None)
            if content_type := response.headers.get("content-type"):
                headers["content-type"] = content_type
        return replace(response, seconds=seconds)

    async def _start_container(self, spec: ContainerSpec, name: str, *, in_pipeline: bool) -> None:
        labels = [MULTI_MODELS] if spec.multi_model else []
        await self._context.runner.check(spec, [*labels, BIND_TO_PORT] if in_pipeline else labels)
        root = self._directory / (name if in_pipeline else "models")
        root.mkdir()
        models = root
        if spec.model_data_url and not spec.multi_model:
            models = await self._fetch_model(spec.model_data_url, root)
        port = self._context.free_port()
        log = self._directory / f"{name}.log"
        launch = ContainerLaunch(spec, self._environment(spec, port), port, models, log)
        running = await self._context.runner.start(launch)
        self._containers.append(self._hosted(launch, running, self._errors(name)))

    def _hosted(
        self, launch: ContainerLaunch, running: RunningContainer, errors: ContainerErrors
    ) -> HostedContainer:
        client = ContainerClient(running.url)
        if not launch.spec.multi_model:
            single = SingleModelContainer(client, self._limits, errors)
            return HostedContainer(running, client, single, errors, multi_model=False)
        many = MultiModelContainer(
            launch,
            client,
            PurePosixPath(running.models),
            self._context.downloader,
            self._limits,
            self._context.metrics.of_variant(self._endpoint, self._variant.name),
            errors,
        )
        return HostedContainer(running, client, many, errors, multi_model=True)

    async def _fetch_model(self, url: str, root: Path) -> Path:
        """Extracts the model of a single-model container, before the container starts."""

        async def nothing_to_free() -> bool:
            return False

        cache = ArtifactCache(
            self._context.downloader,
            root,
            self._limits.volume_nbytes,
            in_use=lambda _: True,
            free=nothing_to_free,
        )
        try:
            async with asyncio.timeout(self._limits.download_s):
                return (await cache.fetch(S3Location.parse(url))).directory
        except InvocationFailed as failure:
            raise DeploymentFailed(failure.message) from None
        except TimeoutError:
            raise DeploymentFailed(f"Downloading model data from {url} timed out.") from None

    def _environment(self, spec: ContainerSpec, port: int) -> dict[str, str]:
        """The model's variables may replace the AWS_* ones, never the SAGEMAKER_* ones."""
        variables = {
            "AWS_REGION": self._context.region,
            "AWS_DEFAULT_REGION": self._context.region,
            "AWS_EXECUTION_ENV": "AWS_ECS_EC2",
            "HOSTNAME": "model.aws.local",
            **spec.environment,
            "SAGEMAKER_BIND_TO_PORT": str(port),
            "SAGEMAKER_SAFE_PORT_RANGE": _SAFE_PORTS,
        }
        return variables | {"SAGEMAKER_MULTI_MODEL": "true"} if spec.multi_model else variables

    async def _await_health(self, container: HostedContainer) -> None:
        exited = asyncio.ensure_future(container.running.exited())
        try:
            async with asyncio.timeout(self._limits.startup_s):
                await self._wait_for_good_pings(container, exited)
        except TimeoutError:
            raise DeploymentFailed(
                f"The {container.errors.container} container for production variant "
                f"{self._variant.name} did not pass the ping health check. Please check CloudWatch "
                f"logs for this endpoint. (Locally: {self._directory})"
            ) from None
        finally:
            exited.cancel()

    async def _wait_for_good_pings(
        self, container: HostedContainer, exited: asyncio.Future[None]
    ) -> None:
        """Returns after enough consecutive good pings. Raises TimeoutError if the container exits."""
        good = 0
        while True:
            good = good + 1 if await container.healthy(self._limits.ping_s) else 0
            if good == self._limits.good_pings:
                return
            await asyncio.wait({exited}, timeout=self._limits.startup_period_s)
            if exited.done():
                raise TimeoutError

    async def _wait_until_failed(self, container: HostedContainer) -> None:
        exited = asyncio.ensure_future(container.running.exited())
        failures = 0
        try:
            while failures < self._limits.failed_pings:
                await asyncio.wait({exited}, timeout=self._limits.ping_period_s)
                if exited.done():
                    return
                healthy = await container.client.is_ok("/ping", self._limits.ping_s)
                failures = 0 if healthy else failures + 1
        finally:
            exited.cancel()

    async def _stop(self) -> None:
        containers, self._containers = self._containers, []
        await asyncio.gather(*(self._stop_container(container) for container in containers))
        for directory in self._directory.glob("*"):
            if directory.is_dir():
                await asyncio.to_thread(shutil.rmtree, directory, True)

    async def _stop_container(self, container: HostedContainer) -> None:
        await container.model.close()
        await container.client.close()
        await container.running.stop(self._limits.stop_s)

    def _errors(self, container: str) -> ContainerErrors:
        return ContainerErrors(self._endpoint, container, self._context.region)


def _limits(limits: PlatformLimits, variant: VariantSpec) -> PlatformLimits:
    """The limits with the values that the variant sets."""
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
