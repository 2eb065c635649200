"""Target tracking: the decision alone, and scaling on a clock that the test controls."""

from pathlib import Path
from typing import Any

import pytest

from emulator.hosting.autoscaling import (
    AlarmPeriods,
    ScalableTarget,
    ScalingActivity,
    desired_count,
    per_minute,
)
from tests.emulator.hosting_bed import bed, client, run, variant

TARGET = ScalableTarget("e", "v", min_count=1, max_count=4, value=10.0)
CALM = [0] * 15


@pytest.mark.parametrize(
    ("minutes", "count", "desired"),
    [
        ([25, 25, 25], 1, 3),
        ([25, 25], 1, 1),  # not long enough
        ([25, 5, 25], 1, 1),
        ([900, 900, 900], 2, 4),  # the maximum
        ([10, 10, 10], 1, 1),  # on target
        (CALM, 3, 1),  # the minimum
        ([*CALM[:-1], 17], 3, 2),
        ([*CALM[:-1], 28], 3, 3),  # above 90 % of the target once
        (CALM[:-1], 3, 3),
    ],
)
def test_decision(minutes: list[int], count: int, desired: int) -> None:
    assert (
        desired_count(TARGET, minutes, count, 1000.0, ScalingActivity(), AlarmPeriods()) == desired
    )


def test_cooldowns_hold_capacity() -> None:
    rising, out = [25, 25, 25], ScalingActivity(out_at=900.0)
    assert desired_count(TARGET, rising, 1, 1000.0, out, AlarmPeriods()) == 1
    assert desired_count(TARGET, rising, 1, 1200.0, out, AlarmPeriods()) == 3
    assert desired_count(TARGET, CALM, 3, 1000.0, out, AlarmPeriods()) == 3
    assert desired_count(TARGET, CALM, 3, 1200.0, out, AlarmPeriods()) == 1


def test_bounds_hold_without_a_policy() -> None:
    bounds = ScalableTarget("e", "v", min_count=2, max_count=3)
    assert desired_count(bounds, [], 1, 0.0, ScalingActivity(), AlarmPeriods()) == 2
    assert desired_count(bounds, [], 9, 0.0, ScalingActivity(), AlarmPeriods()) == 3


def test_minutes_are_counted_back_from_now() -> None:
    assert per_minute([5.0, 61.0, 119.0, 120.0], 0.0, 120.0) == [1, 2]
    assert per_minute([5.0, 61.0], 60.0, 120.0) == [1]
    assert per_minute([5.0], 0.0, 59.0) == []


class Clock:
    def __init__(self) -> None:
        self.now = 1_000_000.0

    def __call__(self) -> float:
        return self.now


def test_registered_policy_is_honoured(s3: str, tmp_path: Path) -> None:
    _register(client(s3, "application-autoscaling"))
    clock = Clock()

    async def work() -> None:
        alarms = AlarmPeriods(high_minutes=2, low_minutes=3)
        async with bed(s3, tmp_path, clock=clock, alarms=alarms) as here:
            await here.hosting.create("scaled", [variant()])

            async def minute(requests: int) -> int:
                for _ in range(requests):
                    await here.ask("0.tar.gz", endpoint="scaled")
                clock.now += 60
                await here.hosting.tick(clock.now)
                return here.hosting.status("scaled")[0].current_count

            await here.hosting.tick(clock.now)
            assert [await minute(n) for n in (12, 12, 0, 0, 0, 0)] == [1, 3, 3, 3, 1, 1]
            assert len(here.runner.alive()) == 1

    run(work())


def _register(autoscaling: Any) -> None:
    resource = {
        "ServiceNamespace": "sagemaker",
        "ResourceId": "endpoint/scaled/variant/v",
        "ScalableDimension": "sagemaker:variant:DesiredInstanceCount",
    }
    autoscaling.register_scalable_target(**resource, MinCapacity=1, MaxCapacity=3)
    autoscaling.put_scaling_policy(
        **resource,
        PolicyName="invocations",
        PolicyType="TargetTrackingScaling",
        TargetTrackingScalingPolicyConfiguration={
            "TargetValue": 4.0,
            "PredefinedMetricSpecification": {
                "PredefinedMetricType": "SageMakerVariantInvocationsPerInstance"
            },
            "ScaleOutCooldown": 60,
            "ScaleInCooldown": 120,
        },
    )
