"""A hosting side without containers, for tests of the control and runtime APIs."""

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager

from emulator.interfaces import (
    DeploymentFailed,
    Hosting,
    Invocation,
    InvocationFailed,
    InvocationResult,
)
from emulator.records import VariantSpec, VariantStatus

BROKEN_IMAGE = "broken:latest"
SLOW_IMAGE = "slow:latest"
BUGGY_IMAGE = "buggy:latest"


class FakeHosting:
    """Keeps the statuses of variants, and responds to invocations with an echo.

    The image decides the deployment: `broken` fails, `slow` never ends, `buggy` raises another error.
    """

    def __init__(self) -> None:
        self._fleets: dict[str, dict[str, VariantStatus]] = {}

    async def create(self, endpoint: str, variants: Sequence[VariantSpec]) -> None:
        assert endpoint not in self._fleets
        await _deploy(variants)
        self._fleets[endpoint] = _statuses(variants)

    async def update(self, endpoint: str, variants: Sequence[VariantSpec]) -> None:
        assert endpoint in self._fleets
        await _deploy(variants)
        self._fleets[endpoint] = _statuses(variants)

    async def scale(
        self, endpoint: str, weights: Mapping[str, float], counts: Mapping[str, int]
    ) -> None:
        fleet = self._fleets[endpoint]
        if any(count > 100 for count in counts.values()):
            raise DeploymentFailed("Insufficient capacity.")
        for name, old in fleet.items():
            weight = weights.get(name, old.desired_weight)
            count = counts.get(name, old.desired_count)
            fleet[name] = VariantStatus(name, weight, weight, count, count)

    async def delete(self, endpoint: str) -> None:
        del self._fleets[endpoint]

    def status(self, endpoint: str) -> list[VariantStatus]:
        return list(self._fleets[endpoint].values())

    async def invoke(self, endpoint: str, invocation: Invocation) -> InvocationResult:
        if invocation.body == b"fail":
            raise InvocationFailed(
                424,
                "ModelError",
                'Received client error (400) from primary with message "no".',
                OriginalStatusCode=400,
                OriginalMessage="no",
                LogStreamArn="arn:aws:logs:us-east-1:123456789012:log-group:/aws/sagemaker",
                ErrorCode="CLIENT_ERROR_FROM_MODEL",
            )
        if invocation.body == b"slow":
            raise InvocationFailed(429, "ModelNotReadyException", "Still loading.")
        if invocation.body == b"bug":
            raise RuntimeError("a bug of the fleet")
        seen = sorted(invocation.headers.items())
        target = (invocation.target_model, invocation.target_variant, invocation.target_container)
        variant = invocation.target_variant or next(iter(self._fleets[endpoint]))
        echo = {"x-amzn-sagemaker-custom-attributes": f"seen={len(invocation.body)}"}
        return InvocationResult(repr((seen, target)).encode(), "text/x-echo", variant, echo)


@asynccontextmanager
async def fake_hosting(_: str) -> AsyncIterator[Hosting]:
    yield FakeHosting()


async def _deploy(variants: Sequence[VariantSpec]) -> None:
    images = {container.image for variant in variants for container in variant.model.containers}
    if BROKEN_IMAGE in images:
        raise DeploymentFailed("The primary container did not pass the ping health check.")
    if BUGGY_IMAGE in images:
        raise RuntimeError("a bug of the fleet")
    if SLOW_IMAGE in images:
        await asyncio.get_running_loop().create_future()


def _statuses(variants: Sequence[VariantSpec]) -> dict[str, VariantStatus]:
    return {
        v.name: VariantStatus(v.name, v.weight, v.weight, v.instance_count, v.instance_count)
        for v in variants
    }
