"""The one place where the engine's parts meet."""

from model_handler.engine.engine import Engine
from model_handler.engine.fleet import Fleet
from model_handler.engine.metrics import Metrics
from model_handler.engine.scheduler import Scheduler
from model_handler.memory import eviction
from model_handler.memory.residency import Residency
from model_handler.options import EngineOptions
from model_handler.processes.forkserver_client import ForkServerClient
from model_handler.processes.supervisor import Supervisor


def create_engine(options: EngineOptions) -> Engine:
    """An engine that has not started: enter it with `async with`."""
    forks = ForkServerClient()

    def supervisor() -> Supervisor:
        return Supervisor(options.device, forks, options.worker)

    workers = Fleet(supervisor(), forks, supervisor)
    metrics = Metrics()
    residency = Residency(workers, eviction.POLICIES[options.eviction])
    scheduler = Scheduler(residency, metrics)
    return Engine(options, forks, workers, residency, scheduler, metrics)
