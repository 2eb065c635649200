"""Internal values of the engine for tests of the ledger's invariants. Other tests use public interfaces."""

from collections.abc import Mapping

from model_handler.engine.engine import Engine
from model_handler.engine.fleet import Fleet
from model_handler.engine.queues import ModelQueue
from model_handler.engine.scheduler import Scheduler
from model_handler.memory.lease import Residence
from model_handler.memory.pools import MemoryPool
from model_handler.memory.residency import Residency
from model_handler.processes.forkserver_client import ForkServerClient


def residency(engine: Engine) -> Residency:
    assert engine._core is not None
    (residency,) = engine._core.residencies.values()
    return residency


def residences(residency: Residency) -> Mapping[int, Residence]:
    """The residences of the first replicas, by model id."""
    return {
        residence.model.model_id: residence
        for residence in residency._residences.values()
        if not residence.extra
    }


def replicas(residency: Residency) -> list[Residence]:
    """The residences of all replicas."""
    return list(residency._residences.values())


def model_queues(scheduler: Scheduler) -> list[ModelQueue]:
    return list(scheduler._model_queues.values())


def at_home(fleet: Fleet) -> list[int]:
    """The ids of the models at home in its device workers, as often as they are."""
    return [key for worker in fleet._all() for key in worker.models]


def overhead_nbytes(residency: Residency) -> int:
    """Bytes reserved for processes, without their models."""
    return residency._overheads.nbytes


def overhead_in(pool: MemoryPool, residency: Residency) -> int:
    """The same, of one pool: the process of a model that computes in main memory is counted there."""
    held = residency._overheads._held.values()
    return sum(one.nbytes for one in held if one._pool is pool)


def remembered_exits(client: ForkServerClient) -> int:
    """Processes that the client remembers, running and ended."""
    assert client._server is not None
    return len(client._server._exits) + len(client._server._unknown)


def queued_nbytes(scheduler: Scheduler) -> int:
    """Bytes of all requests without an answer, and of those in a batch."""
    return scheduler._held_nbytes
