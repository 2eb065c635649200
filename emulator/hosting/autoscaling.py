"""Target tracking on invocations per instance, as Application Auto Scaling does it.

`desired_count` is the decision, a pure function; `ScalingPolicies` reads the registered targets and policies.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from emulator.account import DEFAULT_REGION, local_client

MINUTE_S = 60.0
_DIMENSION = "sagemaker:variant:DesiredInstanceCount"
_METRIC = "SageMakerVariantInvocationsPerInstance"
_COOLDOWN_S = 300.0
_LOW = 0.9  # scale-in threshold, as a fraction of the target value


@dataclass(frozen=True, slots=True)
class AlarmPeriods:
    """Minutes for which the threshold must be exceeded. The defaults are those of AWS's alarms."""

    high_minutes: int = 3
    low_minutes: int = 15


@dataclass(frozen=True, slots=True)
class ScalableTarget:
    """A registered variant with its policy. `value` None: no policy, only the bounds apply."""

    endpoint: str
    variant: str
    min_count: int
    max_count: int
    value: float | None = None
    out_cooldown_s: float = _COOLDOWN_S
    in_cooldown_s: float = _COOLDOWN_S
    scales_in: bool = True


@dataclass(frozen=True, slots=True)
class ScalingActivity:
    """The times of the last scale-out and the last scale-in."""

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
    """The instance count to scale to. `minutes` has the invocations of each past minute, latest last."""
    wanted = count
    if target.value is not None:
        high = minutes[-alarms.high_minutes :]
        low = minutes[-alarms.low_minutes :]
        if len(high) == alarms.high_minutes and min(high) > target.value * count:
            if now - last.out_at >= target.out_cooldown_s:
                wanted = math.ceil(high[-1] / target.value)
        elif target.scales_in and len(low) == alarms.low_minutes:
            is_low = max(low) < _LOW * target.value * count
            if is_low and now - max(last.in_at, last.out_at) >= target.in_cooldown_s:
                wanted = min(count, math.ceil(max(low) / target.value))
    return max(target.min_count, min(target.max_count, wanted))


def per_minute(times: Sequence[float], since: float, now: float) -> list[int]:
    """Invocations in each whole minute between `since` and `now`, latest last."""
    minutes = int(max(0.0, now - since) // MINUTE_S)
    counts = [0] * minutes
    for moment in times:
        minutes_ago = math.ceil((now - moment) / MINUTE_S) - 1
        if 0 <= minutes_ago < minutes:
            counts[minutes - 1 - minutes_ago] += 1
    return counts


class ScalingPolicies:
    """Reads targets and policies from Application Auto Scaling. Blocks the calling thread."""

    def __init__(self, url: str, region: str = DEFAULT_REGION) -> None:
        self._client: Any = local_client("application-autoscaling", url, region)

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
    """The scaling history of one variant. `since`: when its autoscaling began."""

    since: float
    last: ScalingActivity = ScalingActivity()

    def record(self, before: int, after: int, now: float) -> None:
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
        min_count=registered["MinCapacity"],
        max_count=registered["MaxCapacity"],
        value=policy.get("TargetValue"),
        out_cooldown_s=policy.get("ScaleOutCooldown", _COOLDOWN_S),
        in_cooldown_s=policy.get("ScaleInCooldown", _COOLDOWN_S),
        scales_in=not policy.get("DisableScaleIn", False),
    )


Clock = Callable[[], float]
