"""How many models fit, and how often a request finds its model in memory. Pure arithmetic.

The hit ratio is Che's approximation for a cache that evicts the least recently used entry (Che, Tung, Wang,
2002; with sizes as in Fagin, 1977): a model is in memory if it was requested within the characteristic time,
which is the time after which the expected bytes in memory equal the budget. Popularity follows Zipf's law:
the k-th most popular model gets a share of the requests proportional to k ** -skew.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from model_handler.engine.admission import DEVICE_SHARE, MAIN_MEMORY_SHARE
from model_handler.sharing import cores

GIB = 1 << 30


@dataclass(frozen=True, slots=True)
class InstanceType:
    """`device_nbytes`: memory of each GPU as its driver reports it; None without a GPU."""

    name: str
    vcpus: int
    main_nbytes: int
    device_nbytes: int | None = None
    gpus: int = 1

    @property
    def workers(self) -> int:
        """Device workers with the container's default settings."""
        return cores.workers(self.vcpus) if self.device_nbytes is None else self.gpus

    @property
    def budget_nbytes(self) -> int:
        """Bytes for models on all devices with the container's default settings."""
        if self.device_nbytes is not None:
            return self.gpus * int(DEVICE_SHARE * self.device_nbytes)
        return self.main_budget_nbytes

    @property
    def largest_nbytes(self) -> int:
        """Bytes of the largest model: it has to fit on one device."""
        return self.budget_nbytes // self.gpus

    @property
    def main_budget_nbytes(self) -> int:
        """Bytes for models in main memory: with a GPU, those that are loaded and not on the device."""
        return int(MAIN_MEMORY_SHARE * self.main_nbytes)

    @property
    def loaded_nbytes(self) -> int:
        """Bytes for all loaded models."""
        if self.device_nbytes is None:
            return self.main_budget_nbytes
        return self.budget_nbytes + self.main_budget_nbytes


# Types of the GPU families that multi-model endpoints support, and CPU types in common use:
# https://docs.aws.amazon.com/sagemaker/latest/dg/multi-model-support.html
INSTANCE_TYPES = (
    InstanceType("ml.c5.xlarge", 4, 8 * GIB),
    InstanceType("ml.c5.4xlarge", 16, 32 * GIB),
    InstanceType("ml.c5.9xlarge", 36, 72 * GIB),
    InstanceType("ml.m5.large", 2, 8 * GIB),
    InstanceType("ml.m5.xlarge", 4, 16 * GIB),
    InstanceType("ml.m5.2xlarge", 8, 32 * GIB),
    InstanceType("ml.m5.4xlarge", 16, 64 * GIB),
    InstanceType("ml.r5.2xlarge", 8, 64 * GIB),
    InstanceType("ml.g4dn.xlarge", 4, 16 * GIB, 15 * GIB),
    InstanceType("ml.g4dn.2xlarge", 8, 32 * GIB, 15 * GIB),
    InstanceType("ml.g4dn.12xlarge", 48, 192 * GIB, 15 * GIB, gpus=4),
    InstanceType("ml.p3.2xlarge", 8, 61 * GIB, 16 * GIB),
    InstanceType("ml.g5.xlarge", 4, 16 * GIB, 22 * GIB),
    InstanceType("ml.g5.2xlarge", 8, 32 * GIB, 22 * GIB),
    InstanceType("ml.g5.4xlarge", 16, 64 * GIB, 22 * GIB),
    InstanceType("ml.g5.12xlarge", 48, 192 * GIB, 22 * GIB, gpus=4),
)


def popularity(count: int, skew: float) -> list[float]:
    """Shares of the traffic, the most popular model first. Skew 0: equal shares."""
    weights = [1 / rank**skew for rank in range(1, count + 1)]
    total = math.fsum(weights)
    return [weight / total for weight in weights]


def fitting(sizes: Sequence[int], budget_nbytes: int) -> int:
    """The number of models, in the given order, that fit into the budget together."""
    left = budget_nbytes
    for count, size in enumerate(sizes):
        left -= size
        if left < 0:
            return count
    return len(sizes)


@dataclass(frozen=True, slots=True)
class TierCounts:
    """`hits`: expected share of requests whose model is loaded. `promotions`: expected share of requests that
    wait until their loaded model is copied to the device; 0 without a GPU."""

    loaded: int
    on_device: int
    hits: float
    promotions: float


def tiers(sizes: Sequence[int], shares: Sequence[float], instance: InstanceType) -> TierCounts:
    """A loaded model is counted once: on the device or in main memory."""
    loaded, device = instance.loaded_nbytes, instance.budget_nbytes
    largest = instance.largest_nbytes
    possible = [(s, p) for s, p in zip(sizes, shares, strict=True) if s <= largest]
    sizes, shares = [s for s, _ in possible], [p for _, p in possible]
    hits = hit_ratio(sizes, shares, loaded)
    promotions = max(0.0, hits - hit_ratio(sizes, shares, device))
    return TierCounts(fitting(sizes, loaded), fitting(sizes, device), hits, promotions)


def hit_ratio(sizes: Sequence[int], shares: Sequence[float], budget_nbytes: int) -> float:
    """Expected share of requests whose model is in memory; a model larger than the budget never is."""
    models = [(s, p) for s, p in zip(sizes, shares, strict=True) if s <= budget_nbytes]
    if sum(size for size, _ in models) <= budget_nbytes:
        return math.fsum(share for _, share in models)
    time = _characteristic_time(models, budget_nbytes)
    return math.fsum(share * -math.expm1(-share * time) for _, share in models)


def _characteristic_time(models: list[tuple[int, float]], budget_nbytes: int) -> float:
    """The number of requests after which the expected bytes of the requested models equal the budget."""

    def expected_nbytes(time: float) -> float:
        return math.fsum(-size * math.expm1(-share * time) for size, share in models)

    low, high = 0.0, 1.0
    while expected_nbytes(high) < budget_nbytes:
        low, high = high, high * 2
    for _ in range(60):  # bisection steps: the error is far below one request
        middle = (low + high) / 2
        low, high = (middle, high) if expected_nbytes(middle) < budget_nbytes else (low, middle)
    return high
