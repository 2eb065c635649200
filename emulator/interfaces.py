"""What the control plane and the runtime door ask of the side that runs containers."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from emulator.records import VariantSpec, VariantStatus


class DeploymentFailed(Exception):
    """An endpoint could not come up; `str(error)` becomes its FailureReason."""


@dataclass(frozen=True, slots=True)
class Invocation:
    """One InvokeEndpoint call. Header names are lower case; only those AWS forwards are in there."""

    body: bytes
    headers: Mapping[str, str] = field(default_factory=dict)
    target_model: str | None = None
    target_variant: str | None = None
    target_container: str | None = None


@dataclass(frozen=True, slots=True)
class InvocationResult:
    """A 200: what the caller gets. `headers` are those the platform passes on."""

    body: bytes
    content_type: str
    variant: str
    headers: Mapping[str, str] = field(default_factory=dict)


class InvocationFailed(Exception):
    """One of InvokeEndpoint's errors: `code` is the exception's name, `fields` its further members."""

    def __init__(self, status: int, code: str, message: str, **fields: object) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.message = message
        self.fields = fields


class Hosting(Protocol):
    """Endpoints that run. All calls are made on one event loop."""

    async def create(self, endpoint: str, variants: Sequence[VariantSpec]) -> None:
        """Return when every instance is in service. Raises DeploymentFailed; nothing is left then."""
        ...

    async def update(self, endpoint: str, variants: Sequence[VariantSpec]) -> None:
        """Blue/green: the old fleet serves until the new one does, then finishes and goes.

        Raises DeploymentFailed; the old fleet goes on serving then.
        """
        ...

    async def scale(
        self, endpoint: str, weights: Mapping[str, float], counts: Mapping[str, int]
    ) -> None:
        """New weights and instance counts by variant name."""
        ...

    async def delete(self, endpoint: str) -> None:
        """Return when every container of the endpoint is gone."""
        ...

    def status(self, endpoint: str) -> list[VariantStatus]: ...

    async def invoke(self, endpoint: str, invocation: Invocation) -> InvocationResult:
        """Raises InvocationFailed."""
        ...
