"""The metrics in CloudWatch after a few invocations."""

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from emulator.interfaces import InvocationFailed
from tests.emulator.hosting_bed import bed, client, memory, run, variant


def statistics(s3: str, name: str, namespace: str = "AWS/SageMaker") -> dict[str, Any]:
    now = datetime.now(UTC)
    answer = client(s3, "cloudwatch").get_metric_statistics(
        Namespace=namespace,
        MetricName=name,
        Dimensions=[
            {"Name": "EndpointName", "Value": "metered"},
            {"Name": "VariantName", "Value": "v"},
        ],
        StartTime=now - timedelta(hours=1),
        EndTime=now + timedelta(minutes=1),
        Period=7200,
        Statistics=["Sum", "SampleCount", "Maximum", "Minimum"],
    )
    point: dict[str, Any]
    (point,) = answer["Datapoints"]
    return point


def test_metrics_of_a_few_invocations(s3: str, tmp_path: Path) -> None:
    async def work() -> None:
        async with bed(s3, tmp_path) as here:
            await here.hosting.create("metered", [variant(memory(1), count=1)])
            for number in (0, 0, 1, 0):
                await here.ask(f"{number}.tar.gz", endpoint="metered")
            with pytest.raises(InvocationFailed):
                await here.ask("0.tar.gz", b"fail", endpoint="metered")
            with pytest.raises(InvocationFailed):
                await here.ask("none", endpoint="metered")
            await here.hosting.flush()

    run(work())
    assert statistics(s3, "Invocations")["Sum"] == 6
    assert statistics(s3, "InvocationsPerInstance")["Sum"] == 6
    hits = statistics(s3, "ModelCacheHit")
    assert (hits["Sum"], hits["SampleCount"]) == (2, 6)
    assert statistics(s3, "ModelLoadingTime")["SampleCount"] == 3
    assert statistics(s3, "ModelLoadingTime")["Unit"] == "Microseconds"
    assert statistics(s3, "ModelDownloadingTime")["SampleCount"] == 2
    assert statistics(s3, "ModelUnloadingTime")["SampleCount"] == 2
    assert statistics(s3, "ModelLoadingWaitTime")["SampleCount"] == 4
    assert statistics(s3, "ModelLatency")["SampleCount"] == 4
    assert 0 < statistics(s3, "ModelLatency")["Maximum"] < 5e6
    assert statistics(s3, "OverheadLatency")["SampleCount"] == 4
    assert statistics(s3, "InvocationModelErrors")["Sum"] == 1
    assert statistics(s3, "Invocation4XXErrors")["Sum"] == 1
    assert statistics(s3, "Invocation5XXErrors")["Sum"] == 1
    loaded = statistics(s3, "LoadedModelCount", "/aws/sagemaker/Endpoints")
    assert (loaded["Minimum"], loaded["Maximum"]) == (0, 1)
