"""The one place where the engine's parts meet."""

from model_handler.engine import admission
from model_handler.engine.core import Core
from model_handler.engine.device_worker import DeviceWorker, Supervise
from model_handler.engine.engine import Engine, Forget
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
from model_handler.processes.isolated_process import IsolatedProcess
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
    metrics = Metrics()

    def compose(main: DeviceWorker, ready: Ready, forget: Forget) -> Core:
        """What is composed knows the device. Each part gets the parts that it calls; processes, which are
        created later, call `recovery`."""
        budget = admission.budget(options, ready)
        processes = admission.process_options(options, ready, budget)
        spares = PreforkPool(forks)
        fleet = Fleet(
            main,
            processes,
            lambda name: DeviceWorker(
                name,
                supervise,
                lambda worker, _: recovery.device_ready(worker),
                lambda worker, culprit: recovery.device_lost(worker, culprit),
            ),
            lambda name, alone: IsolatedProcess(
                name,
                spares,
                processes,
                lambda process: recovery.isolated_lost(process),
                alone=alone,
            ),
        )
        cost = eviction.POLICIES[options.eviction]
        residency = Residency(fleet, budget.device_nbytes, budget.host_nbytes, cost)
        scheduler = Scheduler(residency, metrics)
        recovery = Recovery(fleet, residency, scheduler, metrics, forget)
        device = ready.device.partition(":")[0]
        return Core(device, spares, fleet, residency, scheduler, recovery)

    return Engine(options, forks, supervise, compose, Registry(), metrics)
