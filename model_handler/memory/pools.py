"""The byte ledger: one MemoryPool per tier.

Invariant: `reserved` is the sum of the live reservations and never exceeds `capacity`.
"""

from enum import Enum
from types import TracebackType
from typing import NamedTuple, Self

from model_handler.errors import InsufficientMemory


class Tier(Enum):
    """Where a model's weights are now; on a machine without a GPU, DEVICE is main memory."""

    DISK = "disk"
    HOST = "host"
    DEVICE = "device"


class Footprint(NamedTuple):
    """What a loaded model was measured to hold: where it computes, and in main memory besides."""

    nbytes: int
    main_nbytes: int = 0


class MemoryPool:
    """Bytes of one tier, handed out as reservations. Single owner: the event loop.

    `budget` is what was configured. `limit` is what is known to exist: an out-of-memory error of the
    device may lower it, also below what is reserved; then nothing fits until enough was released.
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
        """Only so much exists, whatever the budget says."""
        self.limit = min(self.budget, nbytes)

    def reserve(self, nbytes: int) -> "Reservation":
        """Raises InsufficientMemory with both figures; nothing is taken then."""
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
        """Correct an estimate by a measurement. Raises InsufficientMemory and stays as it was."""
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
