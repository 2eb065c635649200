"""CloudWatch metrics of endpoints, with SageMaker's names, units and dimensions.

They are written in batches by a background task: no invocation waits for them.
"""

import asyncio
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError

from emulator.account import DEFAULT_REGION, local_client

INVOCATIONS = "AWS/SageMaker"
INSTANCES = "/aws/sagemaker/Endpoints"
_MOST_PER_CALL = 1000
_LONGEST_DELAY_S = 1.0

log = logging.getLogger(__name__)


class CloudWatchMetrics:
    """A context manager; the exit writes what is still pending."""

    def __init__(
        self, url: str, region: str = DEFAULT_REGION, clock: Callable[[], float] = time.time
    ) -> None:
        self._client: Any = local_client("cloudwatch", url, region)
        self._clock = clock
        self._pending: dict[str, list[dict[str, Any]]] = {}
        self._closing = asyncio.Event()
        self._writer: asyncio.Task[None] | None = None
        self._writing = asyncio.Lock()

    async def __aenter__(self) -> "CloudWatchMetrics":
        self._writer = asyncio.create_task(self._write())
        return self

    async def __aexit__(self, *_: object) -> None:
        self._closing.set()
        if self._writer is not None:
            await self._writer

    def of_variant(self, endpoint: str, variant: str) -> "VariantMetrics":
        return VariantMetrics(self, endpoint, variant)

    def record(self, namespace: str, datum: dict[str, Any]) -> None:
        datum["Timestamp"] = datetime.fromtimestamp(self._clock(), UTC)
        self._pending.setdefault(namespace, []).append(datum)

    async def flush(self) -> None:
        """Returns when every metric recorded so far is in CloudWatch."""
        async with self._writing:
            pending, self._pending = self._pending, {}
            for namespace, data in pending.items():
                for start in range(0, len(data), _MOST_PER_CALL):
                    batch = data[start : start + _MOST_PER_CALL]
                    await asyncio.to_thread(self._put, namespace, batch)

    def _put(self, namespace: str, data: list[dict[str, Any]]) -> None:
        try:
            self._client.put_metric_data(Namespace=namespace, MetricData=data)
        except (ClientError, BotoCoreError):
            log.exception("writing metrics failed", extra={"count": len(data)})

    async def _write(self) -> None:
        while not self._closing.is_set():
            await asyncio.wait(
                {closing := asyncio.ensure_future(self._closing.wait())}, timeout=_LONGEST_DELAY_S
            )
            closing.cancel()
            await self.flush()


@dataclass(frozen=True, slots=True)
class VariantMetrics:
    """Records the metrics of one variant. Arguments are in seconds, CloudWatch gets microseconds."""

    metrics: CloudWatchMetrics
    endpoint: str
    variant: str

    def cache_hit(self, hit: bool) -> None:
        self._count("ModelCacheHit", float(hit))

    def downloading(self, seconds: float) -> None:
        self._time("ModelDownloadingTime", seconds)

    def loading(self, seconds: float) -> None:
        self._time("ModelLoadingTime", seconds)

    def loading_wait(self, seconds: float) -> None:
        self._time("ModelLoadingWaitTime", seconds)

    def loaded(self, count: int) -> None:
        self._count("LoadedModelCount", count, INSTANCES)

    def unloaded(self, seconds: float, count: int) -> None:
        self._time("ModelUnloadingTime", seconds)
        self.loaded(count)

    def invoked(self, instances: int) -> None:
        self._count("Invocations", 1.0)
        self._count("InvocationsPerInstance", 1.0 / max(1, instances))

    def responded(self, model_s: float, total_s: float) -> None:
        self._errors(0, model=False)
        self._time("ModelLatency", model_s)
        self._time("OverheadLatency", max(0.0, total_s - model_s))

    def failed(self, status: int, *, model: bool) -> None:
        """`model`: the failure came from the container; `status` is then the container's."""
        self._errors(status, model=model)

    def _errors(self, status: int, *, model: bool) -> None:
        """Records all three for every invocation, so that their averages are error rates."""
        client = 400 <= status < 500
        self._count("Invocation4XXErrors", float(client))
        self._count("Invocation5XXErrors", float(not client and (status >= 500 or model)))
        self._count("InvocationModelErrors", float(model))

    def _time(self, name: str, seconds: float) -> None:
        self._record(INVOCATIONS, name, seconds * 1e6, "Microseconds")

    def _count(self, name: str, value: float, namespace: str = INVOCATIONS) -> None:
        self._record(namespace, name, value, "None")

    def _record(self, namespace: str, name: str, value: float, unit: str) -> None:
        dimensions = {"EndpointName": self.endpoint, "VariantName": self.variant}
        self.metrics.record(
            namespace,
            {
                "MetricName": name,
                "Dimensions": [{"Name": n, "Value": v} for n, v in dimensions.items()],
                "Value": value,
                "Unit": unit,
            },
        )
