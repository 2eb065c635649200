"""What the ledger's invariants are about and no public interface shows. Other tests do not look inside."""

from collections.abc import Mapping

from model_handler.engine.engine import Engine
from model_handler.engine.scheduler import Scheduler
from model_handler.memory.lease import Residence
from model_handler.memory.residency import Residency


def residency(engine: Engine) -> Residency:
    assert engine._core is not None
    return engine._core.residency


def residences(residency: Residency) -> Mapping[int, Residence]:
    """By model id. A copy: nothing can be changed through it."""
    return dict(residency._residences)


def overhead_nbytes(residency: Residency) -> int:
    """Reserved for processes by themselves."""
    return residency._overheads.nbytes


def queued_nbytes(scheduler: Scheduler) -> int:
    """Of the bodies of all requests that are not answered yet."""
    return scheduler._held_nbytes
