"""Reservations of memory: one MemoryPool per tier.

Invariant: `reserved` is the sum of the live reservations and never exceeds `capacity`.
"""

from enum import Enum
from types import TracebackType
from typing import NamedTuple, Self

from model_handler.errors import InsufficientMemory


class Tier(Enum):
    """The memory that holds a model's weights; on a machine without a GPU, DEVICE is main memory."""

    DISK = "disk"
    HOST = "host"
    DEVICE = "device"


class Footprint(NamedTuple):
    """Measured memory of a loaded model: `nbytes` in the memory in which it computes, and `main_nbytes` of
    main memory in addition.

    `private_nbytes` and `seconds` are measured by a device worker only: main memory that opening the model in
    one more worker costs, and the time of its load.
    """

    nbytes: int
    main_nbytes: int = 0
    private_nbytes: int = 0
    seconds: float = 0.0


class MemoryPool:
    """Bytes of one tier, handed out as reservations. Used by the event loop's thread only.

    `budget`: the configured size. `limit`: the size known to exist. An out-of-memory error of the device
    may lower the limit, even below `reserved`; then nothing fits until enough is released.
    """

    def __init__(self, tier: Tier, budget: int) -> None:
        self.tier = tier
        self.budget = budget
        self.limit = budget
        self.reserved = 0

    @property
    def capacity(self) -> int:
        return max(self.limit, self.reserved)

    @property
    def free(self) -> int:
        return self.capacity - self.reserved

    def learn(self, nbytes: int) -> None:
        """Set the limit to the bytes known to exist, at most the budget."""
        self.limit = min(self.budget, nbytes)

    def reserve(self, nbytes: int) -> "Reservation":
        """Raises InsufficientMemory, and reserves nothing, if fewer than `nbytes` are free."""
        self.take(nbytes)
        return Reservation(self, nbytes)

    def take(self, nbytes: int) -> None:
        if nbytes > self.free:
            raise InsufficientMemory(
                f"{nbytes} bytes of {self.tier.value} memory needed,"
                f" {self.free} of {self.capacity} free"
            )
        self.reserved += nbytes

    def give_back(self, nbytes: int) -> None:
        self.reserved -= nbytes
        assert self.reserved >= 0


class Reservation:
    """Bytes taken from a pool until `release`, which may be called any number of times."""

    def __init__(self, pool: MemoryPool, nbytes: int) -> None:
        self._pool = pool
        self.nbytes = nbytes

    def resize(self, nbytes: int) -> None:
        """Replace an estimate by a measurement. Raises InsufficientMemory and keeps the old size if the
        additional bytes are not free."""
        if nbytes > self.nbytes:
            self._pool.take(nbytes - self.nbytes)
        else:
            self._pool.give_back(self.nbytes - nbytes)
        self.nbytes = nbytes

    def release(self) -> None:
        self._pool.give_back(self.nbytes)
        self.nbytes = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        tb: TracebackType | None,
    ) -> None:
        self.release()
