"""Internal values of the engine for tests of the ledger's invariants. Other tests use public interfaces."""

from collections.abc import Mapping

from model_handler.engine.engine import Engine
from model_handler.engine.scheduler import Scheduler
from model_handler.memory.lease import Residence
from model_handler.memory.residency import Residency


def residency(engine: Engine) -> Residency:
    assert engine._core is not None
    return engine._core.residency


def residences(residency: Residency) -> Mapping[int, Residence]:
    """A copy of the residences, by model id."""
    return dict(residency._residences)


def overhead_nbytes(residency: Residency) -> int:
    """Bytes reserved for processes, without their models."""
    return residency._overheads.nbytes


def queued_nbytes(scheduler: Scheduler) -> int:
    """Bytes of the bodies of all requests without an answer."""
    return scheduler._held_nbytes
