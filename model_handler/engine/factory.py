"""The one place where the engine's parts meet."""

from model_handler.engine import admission
from model_handler.engine.core import Core
from model_handler.engine.device_worker import DeviceWorker, Supervise
from model_handler.engine.engine import Engine, Forget, Spawn
from model_handler.engine.fleet import Fleet
from model_handler.engine.metrics import Metrics
from model_handler.engine.recovery import Recovery
from model_handler.engine.registry import Registry
from model_handler.engine.scheduler import Scheduler
from model_handler.memory import eviction
from model_handler.memory.residency import Residency
from model_handler.messages import Ready
from model_handler.options import EngineOptions
from model_handler.processes.forkserver_client import ForkServerClient
from model_handler.processes.prefork import PreforkPool
from model_handler.processes.supervisor import Supervisor


def create_engine(options: EngineOptions) -> Engine:
    """An engine that has not started: enter it with `async with`."""
    forks = ForkServerClient()
    return assemble(
        options,
        forks,
        lambda ready, lost: Supervisor(options.device, forks, options.worker, ready, lost),
    )


def assemble(options: EngineOptions, forks: ForkServerClient, supervise: Supervise) -> Engine:
    """`supervise` creates the supervisor of each worker of the device."""
    metrics = Metrics()

    def compose(main: DeviceWorker, ready: Ready, spawn: Spawn, forget: Forget) -> Core:
        budget = admission.budget(options, ready)
        processes = admission.process_options(options, ready, budget)
        spares = PreforkPool(forks)
        # `recovery` is bound below: no isolated process exists before `compose` returns
        fleet = Fleet(main, processes, spawn, spares, lambda lost: recovery.isolated_lost(lost))
        cost = eviction.POLICIES[options.eviction]
        residency = Residency(fleet, budget.device_nbytes, budget.host_nbytes, cost)
        scheduler = Scheduler(residency, metrics)
        recovery = Recovery(fleet, residency, scheduler, metrics, forget)
        device = ready.device.partition(":")[0]
        return Core(device, fleet, residency, scheduler, recovery)

    return Engine(options, forks, supervise, compose, Registry(), metrics)
