"""One endpoint and its status.

While an endpoint is in transition, one task performs the transition and only Describe calls are accepted.
"""

import asyncio
import time
from dataclasses import dataclass, field
from enum import StrEnum

from emulator.records import VariantSpec

_LONGEST_REASON = 1024


class EndpointStatus(StrEnum):
    CREATING = "Creating"
    IN_SERVICE = "InService"
    UPDATING = "Updating"
    DELETING = "Deleting"
    FAILED = "Failed"


_TRANSITIONS = {
    EndpointStatus.CREATING: {EndpointStatus.IN_SERVICE, EndpointStatus.FAILED},
    EndpointStatus.IN_SERVICE: {EndpointStatus.UPDATING, EndpointStatus.DELETING},
    EndpointStatus.UPDATING: {EndpointStatus.IN_SERVICE},
    EndpointStatus.FAILED: {EndpointStatus.DELETING},
    EndpointStatus.DELETING: {EndpointStatus.FAILED},
}


@dataclass(slots=True)
class Endpoint:
    name: str
    arn: str
    config_name: str
    variants: tuple[VariantSpec, ...]
    deployment: dict[str, object] | None = None
    created: float = field(default_factory=time.time)
    modified: float = field(default_factory=time.time)
    status: EndpointStatus = EndpointStatus.CREATING
    failure_reason: str | None = None
    hosted: bool = False
    transition: asyncio.Task[None] | None = None

    @property
    def in_transition(self) -> bool:
        return self.status in (
            EndpointStatus.CREATING,
            EndpointStatus.UPDATING,
            EndpointStatus.DELETING,
        )

    @property
    def serving(self) -> bool:
        return self.status in (EndpointStatus.IN_SERVICE, EndpointStatus.UPDATING)

    def set_status(self, status: EndpointStatus, failure_reason: str | None = None) -> None:
        assert status in _TRANSITIONS[self.status], f"{self.status} → {status}"
        self.status = status
        self.failure_reason = failure_reason[:_LONGEST_REASON] if failure_reason else None
        self.modified = time.time()

    async def wait_for_transition(self, timeout_s: float) -> None:
        """Returns when no transition is in progress, at the latest after the timeout."""
        if self.transition is not None:
            await asyncio.wait([self.transition], timeout=timeout_s)
