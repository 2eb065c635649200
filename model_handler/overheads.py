"""What processes take of the device by themselves: a CUDA context, its libraries' workspaces.

Invariant: a process is charged once, as long as one of the models that it carries is admitted.
"""

from typing import NamedTuple

from model_handler.memory import Reservation


class Overhead(NamedTuple):
    """`process`: names the process among those of its engine."""

    process: str
    nbytes: int


class Overheads:
    def __init__(self) -> None:
        self._held: dict[str, Reservation] = {}
        self._models: dict[int, str] = {}

    @property
    def nbytes(self) -> int:
        return sum(reservation.nbytes for reservation in self._held.values())

    def join(self, model_id: int, overhead: Overhead) -> bool:
        """True where the process is charged already."""
        if overhead.process not in self._held:
            return False
        self._move(model_id, overhead.process)
        return True

    def add(self, model_id: int, overhead: Overhead, reservation: Reservation) -> None:
        """Takes ownership of the reservation."""
        self._held[overhead.process] = reservation
        self._move(model_id, overhead.process)

    def leave(self, model_id: int) -> None:
        """Release what was held for the model's process if it was the last one there."""
        process = self._models.pop(model_id, None)
        if process is not None and process not in self._models.values():
            self._held.pop(process).release()

    def _move(self, model_id: int, process: str) -> None:
        if self._models.get(model_id) != process:
            self.leave(model_id)
            self._models[model_id] = process
