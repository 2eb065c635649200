"""The memory of one replica of an admitted model, and the leases that keep the replica on the device."""

import asyncio
from collections.abc import Hashable
from dataclasses import dataclass, field
from functools import partial

from model_handler.errors import InsufficientMemory
from model_handler.memory import eviction
from model_handler.memory.eviction import Candidate, Cost, Now, Standing
from model_handler.memory.pools import Footprint, MemoryPool, Reservation, Tier
from model_handler.model import Model


@dataclass(slots=True, eq=False)
class Residence:
    """The state of one replica of an admitted model. Owned by Residency.

    `extra`: a further replica, beside the one that the load created. Where main memory is the device, it
    shares the weights and holds only what its worker allocates for it.
    `others`: all admitted models, this one included. `home`: pool of the memory in which the model computes.
    `device`: its reservation in `home`. `main`: main memory that the model's own process holds in addition.
    `waiting`: main memory for its weights while it is demoted. `settled`: it has been on the device before.
    `kept`: its worker may keep its handler and modules after a demotion.
    `promotion` and `demotion`: the moves in progress, at most one of each, never cancelled. `arriving`:
    the promotion's call to the worker, which may be cancelled. `leaving`: chosen for demotion, gets no new
    lease. `asking`: has or waits for the turn to find room. `closed`: being unloaded. `displaced`: was on a
    device that was lost. `lost`: its process died after the worker was asked for its latest load. `claims`:
    waiting leases.
    `latest`: measured by its last load.
    """

    model: Model
    nbytes: int
    others: "Residences" = field(repr=False)
    home: MemoryPool
    host: MemoryPool | None
    extra: bool = False
    latest: Footprint = field(default_factory=partial(Footprint, 0))
    device: Reservation | None = None
    main: Reservation | None = None
    waiting: Reservation | None = None
    tier: Tier = Tier.DISK
    leases: int = 0
    standing: Standing = field(default_factory=Standing)
    settled: bool = False
    kept: bool = False
    leaving: bool = False
    asking: bool = False
    closed: bool = False
    displaced: bool = False
    lost: bool = False
    promotion: asyncio.Task[None] | None = None
    arriving: asyncio.Task[Footprint] | None = None
    demotion: asyncio.Task[None] | None = None
    claims: "list[asyncio.Future[Lease]]" = field(default_factory=list)

    @property
    def leasable(self) -> bool:
        return self.tier is Tier.DEVICE and not self.leaving and not self.closed

    @property
    def in_transit(self) -> bool:
        """It has a reservation that it does not use yet, or will release soon.

        Where main memory is the device, nobody waits for the reservation of a model that was not loaded yet.
        """
        if self.host is None and not self.extra:
            return False
        moves = self.closed or self.tier is not Tier.DEVICE
        return self.device is not None and moves and not self.asking

    @property
    def demotable(self) -> bool:
        """Replicas of its kind can be demoted and promoted again."""
        if self.host is None:
            return self.extra
        return self.home.tier is Tier.DEVICE and not self.model.isolated

    @property
    def movable_nbytes(self) -> int:
        """Device memory that it holds and can release, now or later."""
        if self.device is None or self.home.tier is not Tier.DEVICE:
            return 0
        return self.device.nbytes if self.in_transit or self.demotable else 0

    @property
    def coming_nbytes(self) -> int:
        """Device memory reserved for weights that have not arrived yet."""
        there = self.tier is Tier.DEVICE or self.demotion is not None
        return 0 if self.device is None or there or self.home is self.host else self.device.nbytes

    @property
    def idle(self) -> bool:
        """It can be demoted immediately."""
        return self.leasable and self.demotable and not self.leases

    @property
    def candidate(self) -> Candidate:
        """Its record for the eviction policy."""
        standing = self.standing
        return Candidate(
            self.model.key,
            self.nbytes,
            standing.priority,
            standing.used,
            leased=self.leases > 0,
        )

    def lease(self) -> "Lease":
        """Lease a model that is `leasable`, for one use."""
        self.others.count_use(self)
        return Lease(self)

    def descend(self) -> None:
        """Record that it is no longer on the device. Its device reservation stays.

        Its files are counted to main memory, once per model, if there is room for them; otherwise its next
        promotion reads them from disk.
        """
        self.tier = Tier.DISK
        if not self.demotable or self.closed or self.host is None or not self.settled or self.extra:
            return
        try:
            self.waiting = self.waiting or self.host.reserve(self.nbytes)
        except InsufficientMemory:
            return
        self.tier = Tier.HOST

    def ascend(self) -> None:
        """Record that it has arrived on the device."""
        self.tier = Tier.DEVICE
        self.settled = True
        self.displaced = False

    def leave_host(self) -> None:
        """Stop counting its files to main memory."""
        if self.waiting is not None:
            self.waiting.release()
            self.waiting = None
        if self.tier is Tier.HOST:
            self.tier = Tier.DISK

    def counted(self, footprint: Footprint) -> Footprint:
        """The part of a measurement that the ledger does not count for another replica already."""
        if self.extra and self.host is None:
            return footprint._replace(nbytes=footprint.private_nbytes)
        return footprint

    def measured(self, footprint: Footprint) -> None:
        """Replace the reserved estimates by a measurement. Raises InsufficientMemory."""
        assert self.device is not None
        self.device.resize(footprint.nbytes)
        if self.host is not None and self.home is not self.host:
            self.main = self.main or self.host.reserve(0)
            self.main.resize(footprint.main_nbytes)

    def free_device(self) -> None:
        self.descend()
        for held in (self.device, self.main):
            if held is not None:
                held.release()
        self.device = self.main = None

    def free_all(self) -> None:
        self.free_device()
        self.leave_host()


class Lease:
    """Keeps a batch's model on the device until `release`, which may be called more than once."""

    __slots__ = ("_released", "residence")

    def __init__(self, residence: Residence) -> None:
        assert residence.tier is Tier.DEVICE
        self.residence = residence
        self._released = False
        residence.leases += 1

    def release(self) -> None:
        if not self._released:
            self._released = True
            self.residence.leases -= 1
            self.residence.others.pulse()


class Residences(dict[Hashable, Residence]):
    """The replicas of all admitted models, by `Model.key`, with the totals of the eviction policy.

    `clock`: the highest priority of any model evicted so far.
    """

    def __init__(self, cost: Cost) -> None:
        super().__init__()
        self.clock = 0.0
        self._cost = cost
        self._uses = 0
        self._changed = asyncio.Event()  # set when a lease ends or memory is released

    def count_use(self, residence: Residence) -> None:
        """The policy weighs models that can be demoted; of others only the order of their uses matters."""
        self._uses += 1
        if residence.demotable:
            now = Now(self._uses, self.clock, len(self))
            residence.standing = eviction.use(residence.standing, residence.nbytes, now, self._cost)
        else:
            residence.standing = Standing(self._uses)

    def pulse(self) -> None:
        """Wake all tasks in `changed`, because a lease ended or memory was released."""
        self._changed.set()
        self._changed = asyncio.Event()

    async def changed(self) -> None:
        await self._changed.wait()
