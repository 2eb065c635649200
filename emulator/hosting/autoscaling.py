"""Target tracking on invocations per instance: what Application Auto Scaling would do.

`desired_count` decides from plain records; `ScalingPolicies` reads what was registered and keeps time.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import boto3

from emulator.account import DEFAULT_REGION

MINUTE_S = 60.0
_DIMENSION = "sagemaker:variant:DesiredInstanceCount"
_METRIC = "SageMakerVariantInvocationsPerInstance"
_COOLDOWN_S = 300.0
_LOW = 0.9  # of the target: below it for long enough, and capacity goes


@dataclass(frozen=True, slots=True)
class AlarmPeriods:
    """Minutes that a figure has to stay beyond its threshold: AWS's alarms ask for 3 and 15."""

    high_minutes: int = 3
    low_minutes: int = 15


@dataclass(frozen=True, slots=True)
class ScalableTarget:
    """A scalable variant with its policy. Without a policy only the bounds hold."""

    endpoint: str
    variant: str
    least: int
    most: int
    value: float | None = None
    out_cooldown_s: float = _COOLDOWN_S
    in_cooldown_s: float = _COOLDOWN_S
    scales_in: bool = True


@dataclass(frozen=True, slots=True)
class ScalingActivity:
    """When capacity last went up and down."""

    out_at: float = -math.inf
    in_at: float = -math.inf


def desired_count(
    target: ScalableTarget,
    minutes: Sequence[int],
    count: int,
    now: float,
    last: ScalingActivity,
    alarms: AlarmPeriods,
) -> int:
    """How many instances there shall be. `minutes`: invocations of past minutes, the latest last."""
    wanted = count
    if target.value is not None:
        high = minutes[-alarms.high_minutes :]
        low = minutes[-alarms.low_minutes :]
        if len(high) == alarms.high_minutes and min(high) > target.value * count:
            if now - last.out_at >= target.out_cooldown_s:
                wanted = math.ceil(high[-1] / target.value)
        elif target.scales_in and len(low) == alarms.low_minutes:
            calm = max(low) < _LOW * target.value * count
            if calm and now - max(last.in_at, last.out_at) >= target.in_cooldown_s:
                wanted = min(count, math.ceil(max(low) / target.value))
    return max(target.least, min(target.most, wanted))


def per_minute(times: Sequence[float], since: float, now: float) -> list[int]:
    """Counts of the whole minutes that lie before now and after since, the latest last."""
    minutes = int(max(0.0, now - since) // MINUTE_S)
    counts = [0] * minutes
    for moment in times:
        back = math.ceil((now - moment) / MINUTE_S) - 1
        if 0 <= back < minutes:
            counts[minutes - 1 - back] += 1
    return counts


class ScalingPolicies:
    """What is registered with Application Auto Scaling, read with calls that block."""

    def __init__(self, url: str, region: str = DEFAULT_REGION) -> None:
        self._client: Any = boto3.client(
            "application-autoscaling",
            endpoint_url=url,
            region_name=region,
            aws_access_key_id="local",
            aws_secret_access_key="local",
        )

    def targets(self) -> list[ScalableTarget]:
        policies = {
            policy["ResourceId"]: policy["TargetTrackingScalingPolicyConfiguration"]
            for policy in self._all("describe_scaling_policies", "ScalingPolicies")
            if policy["PolicyType"] == "TargetTrackingScaling" and _tracks_invocations(policy)
        }
        return [
            _target(registered, policies.get(registered["ResourceId"], {}))
            for registered in self._all("describe_scalable_targets", "ScalableTargets")
            if registered["ScalableDimension"] == _DIMENSION
        ]

    def _all(self, operation: str, member: str) -> list[dict[str, Any]]:
        pages = self._client.get_paginator(operation).paginate(ServiceNamespace="sagemaker")
        return [entry for page in pages for entry in page[member]]


@dataclass(slots=True)
class ScalingHistory:
    """What is remembered of one variant between two ticks."""

    since: float
    last: ScalingActivity = ScalingActivity()

    def note(self, before: int, after: int, now: float) -> None:
        if after > before:
            self.last = ScalingActivity(now, self.last.in_at)
        elif after < before:
            self.last = ScalingActivity(self.last.out_at, now)


def _tracks_invocations(policy: dict[str, Any]) -> bool:
    configuration = policy["TargetTrackingScalingPolicyConfiguration"]
    metric = configuration.get("PredefinedMetricSpecification", {}).get("PredefinedMetricType")
    return bool(metric == _METRIC)


def _target(registered: dict[str, Any], policy: dict[str, Any]) -> ScalableTarget:
    _, endpoint, _, variant = registered["ResourceId"].split("/")
    return ScalableTarget(
        endpoint=endpoint,
        variant=variant,
        least=registered["MinCapacity"],
        most=registered["MaxCapacity"],
        value=policy.get("TargetValue"),
        out_cooldown_s=policy.get("ScaleOutCooldown", _COOLDOWN_S),
        in_cooldown_s=policy.get("ScaleInCooldown", _COOLDOWN_S),
        scales_in=not policy.get("DisableScaleIn", False),
    )


Clock = Callable[[], float]
