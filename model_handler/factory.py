"""The one place where the engine's parts meet."""

from model_handler import eviction
from model_handler.engine import Engine
from model_handler.forks import Forks
from model_handler.metrics import Metrics
from model_handler.options import EngineOptions
from model_handler.residency import Residency
from model_handler.scheduler import Scheduler
from model_handler.supervisor import Supervisor
from model_handler.workers import Workers


def create_engine(options: EngineOptions) -> Engine:
    """An engine that has not started: enter it with `async with`."""
    forks = Forks()

    def supervisor() -> Supervisor:
        return Supervisor(options.device, forks, options.worker)

    workers = Workers(supervisor(), forks, supervisor)
    metrics = Metrics()
    residency = Residency(workers, eviction.POLICIES[options.eviction])
    scheduler = Scheduler(residency, metrics)
    return Engine(options, forks, workers, residency, scheduler, metrics)
