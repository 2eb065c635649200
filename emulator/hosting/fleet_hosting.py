"""Endpoints and the fleets of their variants: the side of the platform that runs containers.

    async with create_hosting(s3=url) as hosting:
        await hosting.create("endpoint", variants)

Leaving ends every container.
"""

import asyncio
import logging
import random
import tempfile
import time
import uuid
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Literal

from emulator.account import DEFAULT_REGION
from emulator.containers.artifact_cache import S3Downloader
from emulator.containers.client import ContainerResponse
from emulator.containers.docker_runner import DockerRunner
from emulator.containers.process_runner import ContainerRunner, ProcessRunner
from emulator.hosting.autoscaling import (
    MINUTE_S,
    AlarmPeriods,
    Clock,
    ScalableTarget,
    ScalingHistory,
    ScalingPolicies,
    desired_count,
    per_minute,
)
from emulator.hosting.cleanup import run_all
from emulator.hosting.fleet import Fleet
from emulator.hosting.instance import HostingContext
from emulator.hosting.routing import check_target, check_variant, choose_variant
from emulator.interfaces import DeploymentFailed, Invocation, InvocationResult
from emulator.limits import Limits
from emulator.metrics import CloudWatchMetrics
from emulator.records import VariantSpec, VariantStatus

# What a container may say to the caller besides its body.
_RETURNED = (
    "x-amzn-sagemaker-custom-attributes",
    "x-amzn-sagemaker-new-session-id",
    "x-amzn-sagemaker-closed-session-id",
)

FleetsByVariant = dict[str, Fleet]

log = logging.getLogger(__name__)


@asynccontextmanager
async def create_hosting(
    s3: str,
    *,
    runner: ContainerRunner | Literal["process", "docker"] = "process",
    command: Sequence[str] | None = None,
    root: Path | None = None,
    clock: Clock = time.time,
    limits: Limits | None = None,
    alarms: AlarmPeriods | None = None,
    seed: int | None = None,
    tick_every_s: float | None = MINUTE_S,
    region: str = DEFAULT_REGION,
) -> AsyncIterator["FleetHosting"]:
    """`s3` is where S3, CloudWatch and Application Auto Scaling answer. `command` is what the process
    runner starts. `root` takes the instances' files and logs; one that is not given is temporary.
    `tick_every_s` None: only `tick` scales."""
    with tempfile.TemporaryDirectory(prefix="mme-") as temporary:
        async with CloudWatchMetrics(s3, region, clock) as metrics:
            site = HostingContext(
                runner=_runner(runner, command),
                objects=S3Downloader(s3, region),
                metrics=metrics,
                root=(root or Path(temporary)).resolve(),
                limits=limits or Limits(),
                region=region,
                clock=clock,
            )
            hosts = FleetHosting(
                site, ScalingPolicies(s3, region), alarms or AlarmPeriods(), random.Random(seed)
            )
            ticking = asyncio.create_task(hosts.keep_ticking(tick_every_s))
            try:
                yield hosts
            finally:
                ticking.cancel()
                await asyncio.gather(ticking, return_exceptions=True)
                await hosts.close()


class FleetHosting:
    def __init__(
        self,
        site: HostingContext,
        autoscaling: ScalingPolicies,
        alarms: AlarmPeriods,
        chance: random.Random,
    ) -> None:
        self._site = site
        self._autoscaling = autoscaling
        self._alarms = alarms
        self._chance = chance
        self._deployments: dict[str, FleetsByVariant] = {}
        self._memories: dict[Fleet, ScalingHistory] = {}

    async def create(self, endpoint: str, variants: Sequence[VariantSpec]) -> None:
        self._deployments[endpoint] = await self._deployed(endpoint, variants)

    async def update(self, endpoint: str, variants: Sequence[VariantSpec]) -> None:
        green = await self._deployed(endpoint, variants)
        blue = self._deployments[endpoint]
        self._deployments[endpoint] = green
        await self._site.cleanup.run(_stop(blue))

    async def scale(
        self, endpoint: str, weights: Mapping[str, float], counts: Mapping[str, int]
    ) -> None:
        deployment = self._deployments[endpoint]
        await asyncio.gather(*(deployment[name].scale(count) for name, count in counts.items()))
        for name, weight in weights.items():
            deployment[name].weight = weight

    async def delete(self, endpoint: str) -> None:
        await self._site.cleanup.run(_stop(self._deployments.pop(endpoint)))

    def status(self, endpoint: str) -> list[VariantStatus]:
        return [fleet.status for fleet in self._deployments[endpoint].values()]

    async def invoke(self, endpoint: str, invocation: Invocation) -> InvocationResult:
        deployment = self._deployments[endpoint]
        if invocation.target_variant:
            variant = check_variant(endpoint, list(deployment), invocation.target_variant)
        else:
            weights = {name: fleet.weight for name, fleet in deployment.items()}
            variant = choose_variant(weights, self._chance.random())
        fleet = deployment[variant]
        check_target(endpoint, fleet.spec.model, invocation, str(uuid.uuid4()))
        return _outcome(await fleet.invoke(invocation), variant)

    async def flush(self) -> None:
        """Return when CloudWatch has every metric recorded so far."""
        await self._site.metrics.flush()

    async def tick(self, now: float) -> None:
        """Scale as the registered policies ask for at this moment."""
        for target in await asyncio.to_thread(self._autoscaling.targets):
            fleet = self._deployments.get(target.endpoint, {}).get(target.variant)
            if fleet is not None:
                await self._track(target, fleet, now)

    async def keep_ticking(self, every_s: float | None) -> None:
        """Until cancelled."""
        while True:
            await asyncio.wait({asyncio.get_running_loop().create_future()}, timeout=every_s)
            try:
                await self.tick(self._site.clock())
            except Exception:  # one unreadable policy or missed call must not end autoscaling
                log.exception("autoscaling failed")

    async def close(self) -> None:
        deployments, self._deployments = self._deployments, {}
        await asyncio.gather(*(_stop(deployment) for deployment in deployments.values()))
        await self._site.cleanup.finished()

    async def _deployed(self, endpoint: str, variants: Sequence[VariantSpec]) -> FleetsByVariant:
        """Everything in service, or DeploymentFailed and nothing left."""
        fleets = {spec.name: Fleet(self._site, endpoint, spec) for spec in variants}
        try:
            await run_all(fleet.start() for fleet in fleets.values())
        except BaseException:  # a failure of one, or a cancellation, is the end of all
            await _stop(fleets)
            raise
        return fleets

    async def _track(self, target: ScalableTarget, fleet: Fleet, now: float) -> None:
        memory = self._memories.setdefault(fleet, ScalingHistory(now))
        count = fleet.desired_count
        longest = max(self._alarms.high_minutes, self._alarms.low_minutes) * MINUTE_S
        minutes = per_minute(fleet.invocations, max(memory.since, now - longest), now)
        wanted = desired_count(target, minutes, count, now, memory.last, self._alarms)
        if wanted == count:
            return
        try:
            await fleet.scale(wanted)
        except DeploymentFailed:
            log.exception("autoscaling failed", extra={"endpoint": target.endpoint})
            return
        memory.note(count, wanted, now)
        log.info("scaled", extra={"endpoint": target.endpoint, "from": count, "to": wanted})


def _runner(
    runner: ContainerRunner | Literal["process", "docker"], command: Sequence[str] | None
) -> ContainerRunner:
    match runner:
        case "process":
            return ProcessRunner() if command is None else ProcessRunner(tuple(command))
        case "docker":
            return DockerRunner()
        case _:
            return runner


async def _stop(deployment: FleetsByVariant) -> None:
    await asyncio.gather(*(fleet.stop() for fleet in deployment.values()))


def _outcome(answer: ContainerResponse, variant: str) -> InvocationResult:
    headers = {name: answer.headers[name] for name in _RETURNED if name in answer.headers}
    content_type = answer.headers.get("content-type", "application/octet-stream")
    return InvocationResult(answer.body, content_type, variant, headers)
