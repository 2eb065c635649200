"""One admitted model's places, and the leases that keep it in one of them."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field

from model_handler.eviction import Candidate, Standing
from model_handler.memory import Reservation, Tier
from model_handler.model import Model


@dataclass(slots=True, eq=False)
class Residence:
    """Owned by Residency.

    `promotion` and `demotion` are the moves under way, each at most one and never cancelled; `arriving`
    is the promotion's call to the worker, which may be. `leaving`: chosen for demotion, gets no new
    lease. `closed`: being unloaded. `displaced`: was on a device that was lost.
    """

    model: Model
    nbytes: int
    host: Reservation | None
    device: Reservation | None = None
    tier: Tier = Tier.DISK
    leases: int = 0
    standing: Standing = field(default_factory=Standing)
    leaving: bool = False
    closed: bool = False
    displaced: bool = False
    promotion: asyncio.Task[None] | None = None
    arriving: asyncio.Task[int] | None = None
    demotion: asyncio.Task[None] | None = None
    claims: "list[asyncio.Future[Lease]]" = field(default_factory=list)

    @property
    def leasable(self) -> bool:
        return self.tier is Tier.DEVICE and not self.leaving and not self.closed

    @property
    def in_transit(self) -> bool:
        """Bytes are reserved for it that it does not use, or will give back soon."""
        return self.device is not None and (self.closed or self.tier is not Tier.DEVICE)

    @property
    def movable_nbytes(self) -> int:
        """What it holds of the device and may give back, sooner or later."""
        movable = self.in_transit or not self.model.isolated
        return self.device.nbytes if self.device is not None and movable else 0

    @property
    def candidate(self) -> Candidate:
        """For leaving the device."""
        standing = self.standing
        return Candidate(
            self.model.model_id,
            self.nbytes,
            standing.priority,
            standing.used,
            leased=self.leases > 0,
        )

    def descend(self) -> None:
        """It is on the device no more; what is reserved for it there stays reserved."""
        self.tier = Tier.DISK if self.host is None else Tier.HOST

    def free_device(self) -> None:
        self.descend()
        if self.device is not None:
            self.device.release()
            self.device = None


class Lease:
    """A batch's right that its model stays on the device, until `release` (idempotent)."""

    def __init__(self, residence: Residence, released: Callable[[], None]) -> None:
        assert residence.tier is Tier.DEVICE
        self.residence = residence
        self._released: Callable[[], None] | None = released
        residence.leases += 1

    def release(self) -> None:
        if self._released is not None:
            released, self._released = self._released, None
            self.residence.leases -= 1
            released()
