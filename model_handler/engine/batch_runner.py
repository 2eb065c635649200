"""What the scheduler needs of a process that computes batches."""

from collections.abc import Awaitable
from typing import Protocol

from model_handler.messages import Done, Run


class BatchRunner(Protocol):
    """A device worker, or the process of an isolated model."""

    def run(self, command: Run) -> Awaitable[Done]: ...

    def replace(self, reason: str, culprit: int = 0) -> None:
        """End the process; another one is started. `culprit`: the model_id to blame."""
        ...

    @property
    def running(self) -> bool: ...

    @property
    def failing(self) -> bool:
        """No process runs, and the last attempt to start one failed."""
        ...
