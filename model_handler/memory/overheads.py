"""Device memory that processes use besides their models: a CUDA context and workspaces of its libraries.

Invariant: the memory of a process is reserved once, while at least one of its models is admitted.
"""

from collections.abc import Hashable
from typing import NamedTuple

from model_handler.memory.pools import Reservation


class Overhead(NamedTuple):
    """`process`: name of the process, unique in its engine. `nbytes`: device memory besides its models."""

    process: str
    nbytes: int


class Overheads:
    def __init__(self) -> None:
        self._held: dict[str, Reservation] = {}
        self._models: dict[Hashable, str] = {}

    @property
    def nbytes(self) -> int:
        return sum(reservation.nbytes for reservation in self._held.values())

    def join(self, model: Hashable, overhead: Overhead) -> bool:
        """Count the model to its process. False, without effect, if the process has no reservation yet."""
        if overhead.process not in self._held:
            return False
        self._move(model, overhead.process)
        return True

    def add(self, model: Hashable, overhead: Overhead, reservation: Reservation) -> None:
        """Record the reservation for a process with its first model. Takes ownership of the reservation."""
        self._held[overhead.process] = reservation
        self._move(model, overhead.process)

    def leave(self, model: Hashable) -> None:
        """Release the reservation of the model's process if this was its last model."""
        process = self._models.pop(model, None)
        if process is not None and process not in self._models.values():
            self._held.pop(process).release()

    def _move(self, model: Hashable, process: str) -> None:
        if self._models.get(model) != process:
            self.leave(model)
            self._models[model] = process
