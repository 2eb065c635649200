"""The interface between the SageMaker APIs and the side that runs containers."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from emulator.records import VariantSpec, VariantStatus


class DeploymentFailed(Exception):
    """An endpoint could not be brought into service; the message becomes its FailureReason."""


@dataclass(frozen=True, slots=True)
class Invocation:
    """One InvokeEndpoint call. `headers` has the forwarded headers only, with lower-case names."""

    body: bytes
    headers: Mapping[str, str] = field(default_factory=dict)
    target_model: str | None = None
    target_variant: str | None = None
    target_container: str | None = None


@dataclass(frozen=True, slots=True)
class InvocationResult:
    """A successful response. `headers` has the container's headers that the caller receives."""

    body: bytes
    content_type: str
    variant: str
    headers: Mapping[str, str] = field(default_factory=dict)


class InvocationFailed(Exception):
    """An error response of InvokeEndpoint: `code` is the exception's name, `fields` its other members."""

    def __init__(self, status: int, code: str, message: str, **fields: object) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.message = message
        self.fields = fields


class Hosting(Protocol):
    """Runs the instances of endpoints. All methods are called on one event loop."""

    async def create(self, endpoint: str, variants: Sequence[VariantSpec]) -> None:
        """Start the instances of an endpoint; return when all are in service.

        Raises DeploymentFailed; then no container remains.
        """
        ...

    async def update(self, endpoint: str, variants: Sequence[VariantSpec]) -> None:
        """Blue/green: the old fleet serves until the new one is in service, then drains and stops.

        Raises DeploymentFailed; the old fleet then continues to serve.
        """
        ...

    async def scale(
        self, endpoint: str, weights: Mapping[str, float], counts: Mapping[str, int]
    ) -> None:
        """Sets weights and instance counts by variant name."""
        ...

    async def delete(self, endpoint: str) -> None:
        """Returns when every container of the endpoint has stopped."""
        ...

    def status(self, endpoint: str) -> list[VariantStatus]: ...

    async def invoke(self, endpoint: str, invocation: Invocation) -> InvocationResult:
        """Raises InvocationFailed."""
        ...
