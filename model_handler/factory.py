"""The one place where the engine's parts meet."""

from model_handler.engine import Engine
from model_handler.metrics import Metrics
from model_handler.options import EngineOptions
from model_handler.residency import Residency
from model_handler.scheduler import Scheduler
from model_handler.supervisor import Supervisor


def create_engine(options: EngineOptions) -> Engine:
    """An engine that has not started: enter it with `async with`."""
    supervisor = Supervisor(options.device)
    metrics = Metrics()
    residency = Residency(supervisor)
    scheduler = Scheduler(residency, supervisor, metrics)
    return Engine(options, supervisor, residency, scheduler, metrics)
