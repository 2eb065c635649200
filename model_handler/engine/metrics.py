"""What the engine counts, in Prometheus terms. Label values are bounded: see `MAX_LABELS`."""

from collections.abc import Callable, Iterator
from functools import partial
from typing import NamedTuple

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    disable_created_metrics,
    generate_latest,
)
from prometheus_client.core import CounterMetricFamily
from prometheus_client.registry import Collector

from model_handler.memory.pools import MemoryPool

# A time stamp beside each of our series would double the page.
disable_created_metrics()  # type: ignore[no-untyped-call]

MAX_LABELS = 100  # models with a series of their own; later ones share the label "other"
LATENCY_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)
OK = "ok"  # the outcome of answers; others are class names of errors
BATCH_BUCKETS = (1, 2, 4, 8, 16, 32, 64)


class ModelSeries(NamedTuple):
    """One model's answers, and the latency of all its requests."""

    answers: Counter
    latency: Histogram


class WorkerSeconds(Collector):
    """Compute time by worker. `read`: by the worker's name."""

    def __init__(self) -> None:
        self.read: dict[str, Callable[[], float]] = {}

    def collect(self) -> Iterator[CounterMetricFamily]:
        text = "Time in batches, by worker"
        family = CounterMetricFamily("mme_worker_compute_seconds", text, labels=["worker"])
        for worker, read in self.read.items():
            family.add_metric([worker], read())
        yield family


class Metrics:
    """`series`: of the models that have answered, up to MAX_LABELS."""

    def __init__(self) -> None:
        self.registry = into = CollectorRegistry()
        self._requests = Counter(
            "mme_requests", "Requests answered", ["model", "outcome"], registry=into
        )
        self._latency = Histogram(
            "mme_request_seconds",
            "From arrival to answer, time in the queue included",
            ["model"],
            buckets=LATENCY_BUCKETS,
            registry=into,
        )
        self.batch_size = Histogram(
            "mme_batch_size", "Requests per batch", buckets=BATCH_BUCKETS, registry=into
        )
        self.forward_seconds = Histogram(
            "mme_forward_seconds", "Device time of a batch", buckets=LATENCY_BUCKETS, registry=into
        )
        self.loads = Counter("mme_loads", "Loads, by outcome", ["outcome"], registry=into)
        self.load_seconds = Histogram("mme_load_seconds", "Loads that succeeded", registry=into)
        self.unload_seconds = Histogram("mme_unload_seconds", "Unloads", registry=into)
        self.worker_restarts = Counter("mme_worker_restarts", "Workers replaced", registry=into)
        self._worker_seconds = WorkerSeconds()
        into.register(self._worker_seconds)
        self._worker_models = Gauge(
            "mme_worker_models", "Models open in a worker", ["worker"], registry=into
        )
        self._worker_running = Gauge(
            "mme_worker_running", "1, or 0 while a worker is replaced", ["worker"], registry=into
        )
        self._device_reserved = Gauge(
            "mme_device_memory_reserved_bytes", "Held by models", ["device"], registry=into
        )
        self._device_capacity = Gauge(
            "mme_device_memory_capacity_bytes", "Budget", ["device"], registry=into
        )
        self._labels: set[str] = set()
        self.series: dict[str, ModelSeries] = {}

    def gauge(self, name: str, text: str, read: Callable[[], float]) -> None:
        Gauge(name, text, registry=self.registry).set_function(read)

    def watch(self, pools: Callable[[], list[MemoryPool]], tiers: list[str]) -> None:
        """Publish capacity and reserved bytes of each tier, 0 where the machine has no such tier."""
        into = self.registry
        reserved = Gauge("mme_memory_reserved_bytes", "Held by models", ["tier"], registry=into)
        capacity = Gauge("mme_memory_capacity_bytes", "Budget", ["tier"], registry=into)
        for tier in tiers:
            reserved.labels(tier).set_function(partial(_sum, pools, tier, "reserved"))
            capacity.labels(tier).set_function(partial(_sum, pools, tier, "capacity"))

    def watch_worker(
        self,
        worker: str,
        models: Callable[[], float],
        seconds: Callable[[], float],
        running: Callable[[], bool],
    ) -> None:
        """Publish the models that are open in a main worker, its compute time so far, and whether it runs."""
        self._worker_models.labels(worker).set_function(models)
        self._worker_seconds.read[worker] = seconds
        self._worker_running.labels(worker).set_function(running)

    def watch_device(self, device: str, pool: MemoryPool) -> None:
        """Publish capacity and reserved bytes of one device."""
        self._device_reserved.labels(device).set_function(lambda: pool.reserved)
        self._device_capacity.labels(device).set_function(lambda: pool.capacity)

    def answered(self, model: str, outcome: str) -> None:
        """`model`: "unknown", or empty for requests that are no inference; not counted against MAX_LABELS."""
        self._requests.labels(model, outcome).inc()

    def invoked(self, model: str, outcome: str, seconds: float) -> None:
        """The same as to increment and observe the model's `series`, where it has one."""
        label = self._label(model)
        requests, latency = self._requests.labels(label, outcome), self._latency.labels(label)
        requests.inc()
        latency.observe(seconds)
        if label == model and outcome == OK:
            self.series[model] = ModelSeries(requests, latency)

    def _label(self, model: str) -> str:
        if model in self._labels:
            return model
        if len(self._labels) >= MAX_LABELS:
            return "other"
        self._labels.add(model)
        return model

    def exposition(self) -> bytes:
        return generate_latest(self.registry)


def _sum(pools: Callable[[], list[MemoryPool]], tier: str, figure: str) -> float:
    return float(sum(getattr(pool, figure) for pool in pools() if pool.tier.value == tier))
