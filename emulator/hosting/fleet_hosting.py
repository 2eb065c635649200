"""Hosting with containers: each endpoint has one fleet of instances per production variant.

    async with create_hosting(s3=url) as hosting:
        await hosting.create("endpoint", variants)

Leaving the context stops every container.
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
from emulator.background_tasks import run_all
from emulator.containers.client import ContainerResponse
from emulator.containers.docker_runner import DockerRunner
from emulator.containers.process_runner import ProcessRunner
from emulator.containers.runner import ContainerRunner
from emulator.containers.s3 import S3Downloader
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
from emulator.hosting.context import HostingContext
from emulator.hosting.instance_fleet import InstanceFleet
from emulator.hosting.routing import check_target, check_variant, choose_variant
from emulator.interfaces import DeploymentFailed, Invocation, InvocationResult
from emulator.limits import PlatformLimits
from emulator.metrics import CloudWatchMetrics
from emulator.records import VariantSpec, VariantStatus

# The container's response headers that the caller receives.
_RETURNED = (
    "x-amzn-sagemaker-custom-attributes",
    "x-amzn-sagemaker-new-session-id",
    "x-amzn-sagemaker-closed-session-id",
)

Fleets = dict[str, InstanceFleet]

log = logging.getLogger(__name__)


@asynccontextmanager
async def create_hosting(
    s3: str,
    *,
    runner: ContainerRunner | Literal["process", "docker"] = "process",
    command: Sequence[str] | None = None,
    root: Path | None = None,
    clock: Clock = time.time,
    limits: PlatformLimits | None = None,
    alarms: AlarmPeriods | None = None,
    seed: int | None = None,
    tick_every_s: float | None = MINUTE_S,
    region: str = DEFAULT_REGION,
) -> AsyncIterator["FleetHosting"]:
    """`s3` is the address of S3, CloudWatch and Application Auto Scaling.

    `command`: the command of each container for the process runner. `root` is the directory for the
    instances' files and logs (default: temporary). `tick_every_s` None: only calls of `tick` scale.
    """
    with tempfile.TemporaryDirectory(prefix="mme-") as temporary:
        async with CloudWatchMetrics(s3, region, clock) as metrics:
            context = HostingContext(
                runner=_runner(runner, command),
                downloader=S3Downloader(s3, region),
                metrics=metrics,
                root=(root or Path(temporary)).resolve(),
                limits=limits or PlatformLimits(),
                region=region,
                clock=clock,
            )
            hosting = FleetHosting(
                context, ScalingPolicies(s3, region), alarms or AlarmPeriods(), random.Random(seed)
            )
            ticking = asyncio.create_task(hosting.keep_ticking(tick_every_s))
            try:
                yield hosting
            finally:
                ticking.cancel()
                await asyncio.gather(ticking, return_exceptions=True)
                await hosting.close()


class FleetHosting:
    def __init__(
        self,
        context: HostingContext,
        autoscaling: ScalingPolicies,
        alarms: AlarmPeriods,
        random_source: random.Random,
    ) -> None:
        self._context = context
        self._autoscaling = autoscaling
        self._alarms = alarms
        self._random = random_source
        self._endpoints: dict[str, Fleets] = {}
        self._histories: dict[InstanceFleet, ScalingHistory] = {}

    async def create(self, endpoint: str, variants: Sequence[VariantSpec]) -> None:
        self._endpoints[endpoint] = await self._start_fleets(endpoint, variants)

    async def update(self, endpoint: str, variants: Sequence[VariantSpec]) -> None:
        green = await self._start_fleets(endpoint, variants)
        blue = self._endpoints[endpoint]
        self._endpoints[endpoint] = green
        await self._context.cleanup.run(_stop_fleets(blue))

    async def scale(
        self, endpoint: str, weights: Mapping[str, float], counts: Mapping[str, int]
    ) -> None:
        fleets = self._endpoints[endpoint]
        await asyncio.gather(*(fleets[name].scale(count) for name, count in counts.items()))
        for name, weight in weights.items():
            fleets[name].weight = weight

    async def delete(self, endpoint: str) -> None:
        await self._context.cleanup.run(_stop_fleets(self._endpoints.pop(endpoint)))

    def status(self, endpoint: str) -> list[VariantStatus]:
        return [fleet.status for fleet in self._endpoints[endpoint].values()]

    async def invoke(self, endpoint: str, invocation: Invocation) -> InvocationResult:
        fleets = self._endpoints[endpoint]
        if invocation.target_variant:
            variant = check_variant(endpoint, list(fleets), invocation.target_variant)
        else:
            weights = {name: fleet.weight for name, fleet in fleets.items()}
            variant = choose_variant(weights, self._random.random())
        fleet = fleets[variant]
        check_target(endpoint, fleet.spec.model, invocation, str(uuid.uuid4()))
        return _invocation_result(await fleet.invoke(invocation), variant)

    async def flush(self) -> None:
        """Returns when every metric recorded so far is in CloudWatch."""
        await self._context.metrics.flush()

    async def tick(self, now: float) -> None:
        """Scales every variant once according to its registered policy."""
        for target in await asyncio.to_thread(self._autoscaling.targets):
            fleet = self._endpoints.get(target.endpoint, {}).get(target.variant)
            if fleet is not None:
                await self._track(target, fleet, now)

    async def keep_ticking(self, every_s: float | None) -> None:
        """Scales periodically until cancelled. None: never."""
        while True:
            await asyncio.wait({asyncio.get_running_loop().create_future()}, timeout=every_s)
            try:
                await self.tick(self._context.clock())
            except Exception:  # one bad policy or failed call must not end autoscaling
                log.exception("autoscaling failed")

    async def close(self) -> None:
        endpoints, self._endpoints = self._endpoints, {}
        await asyncio.gather(*(_stop_fleets(fleets) for fleets in endpoints.values()))
        await self._context.cleanup.finished()

    async def _start_fleets(self, endpoint: str, variants: Sequence[VariantSpec]) -> Fleets:
        """Returns when all fleets are in service. On DeploymentFailed no container is left."""
        fleets = {spec.name: InstanceFleet(self._context, endpoint, spec) for spec in variants}
        try:
            await run_all(fleet.start() for fleet in fleets.values())
        except BaseException:  # one failure or a cancellation: stop all fleets
            await _stop_fleets(fleets)
            raise
        return fleets

    async def _track(self, target: ScalableTarget, fleet: InstanceFleet, now: float) -> None:
        history = self._histories.setdefault(fleet, ScalingHistory(now))
        count = fleet.desired_count
        longest = max(self._alarms.high_minutes, self._alarms.low_minutes) * MINUTE_S
        minutes = per_minute(fleet.invocations, max(history.since, now - longest), now)
        desired = desired_count(target, minutes, count, now, history.last, self._alarms)
        if desired == count:
            return
        try:
            await fleet.scale(desired)
        except DeploymentFailed:
            log.exception("autoscaling failed", extra={"endpoint": target.endpoint})
            return
        history.record(count, desired, now)
        log.info("scaled", extra={"endpoint": target.endpoint, "from": count, "to": desired})


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


async def _stop_fleets(fleets: Fleets) -> None:
    await asyncio.gather(*(fleet.stop() for fleet in fleets.values()))


def _invocation_result(response: ContainerResponse, variant: str) -> InvocationResult:
    headers = {name: response.headers[name] for name in _RETURNED if name in response.headers}
    content_type = response.headers.get("content-type", "application/octet-stream")
    return InvocationResult(response.body, content_type, variant, headers)
