"""One endpoint: its record and its states.

An endpoint in transition has a task that ends the transition; no call but Describe is taken meanwhile.
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


_NEXT = {
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
    def changing(self) -> bool:
        return self.status in (
            EndpointStatus.CREATING,
            EndpointStatus.UPDATING,
            EndpointStatus.DELETING,
        )

    @property
    def serving(self) -> bool:
        return self.status in (EndpointStatus.IN_SERVICE, EndpointStatus.UPDATING)

    def become(self, status: EndpointStatus, failure_reason: str | None = None) -> None:
        assert status in _NEXT[self.status], f"{self.status} → {status}"
        self.status = status
        self.failure_reason = failure_reason[:_LONGEST_REASON] if failure_reason else None
        self.modified = time.time()

    async def settled(self, patience_s: float) -> None:
        """Return when no transition is under way, or when patience ran out."""
        if self.transition is not None:
            await asyncio.wait([self.transition], timeout=patience_s)
