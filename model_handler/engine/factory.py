"""The one place where the engine's parts meet."""

import dataclasses
import os
from collections.abc import Callable
from functools import partial

from model_handler.engine import admission
from model_handler.engine.core import Core
from model_handler.engine.device_worker import (
    OTHERS_GRACE_S,
    DeviceWorker,
    Supervise,
    WorkQueues,
)
from model_handler.engine.engine import Engine, Forget
from model_handler.engine.fleet import Fleet
from model_handler.engine.metrics import Metrics
from model_handler.engine.queues import Cores
from model_handler.engine.recovery import Recovery
from model_handler.engine.registry import Registry
from model_handler.engine.scheduler import Scheduler
from model_handler.memory import eviction
from model_handler.memory.pools import MemoryPool
from model_handler.memory.residency import Residency
from model_handler.messages import Ready
from model_handler.options import EngineOptions
from model_handler.processes import users
from model_handler.processes.deaths import Death
from model_handler.processes.forkserver_client import ForkServerClient
from model_handler.processes.inspector import Inspector
from model_handler.processes.prefork import PreforkPool
from model_handler.processes.quarantine import Quarantine
from model_handler.processes.supervisor import Supervisor
from model_handler.sharing import cores

CPU = "cpu"
ALL_GPUS = ("auto", "cuda")  # values of `EngineOptions.device`


def create_engine(options: EngineOptions) -> Engine:
    """An engine that has not started: enter it with `async with`."""
    environ = os.environ if options.isolated_uids is None else users.environment(os.environ)
    forks, available = ForkServerClient(environ), cores.available()
    threads = cores.pool_threads(available, options.workers or cores.workers(available))
    worker = dataclasses.replace(options.worker, pool_threads=threads)

    def supervise(
        device: str,
        on_ready: Callable[[Ready], None],
        on_lost: Callable[[], None],
        on_examined: Callable[[Death], bool],
        *,
        alone: bool = False,
    ) -> Supervisor:
        calls = on_ready, on_lost, on_examined
        change_user = alone and options.isolated_uids is not None
        its_options = dataclasses.replace(worker, alone=alone, change_user=change_user)
        return Supervisor(device, forks, its_options, *calls, alone=alone)

    readers = PreforkPool(forks)
    inspector = Inspector(readers, options)
    quarantine = Quarantine(readers, enabled=options.quarantine)
    return assemble(options, forks, inspector, quarantine, supervise)


def assemble(
    options: EngineOptions,
    forks: ForkServerClient,
    inspector: Inspector,
    quarantine: Quarantine,
    supervise: Supervise,
) -> Engine:
    """`supervise` creates the supervisor of each worker of a device."""
    metrics = Metrics()

    def compose(first: Supervisor, ready: Ready, forget: Forget) -> Core:
        composer = Composer(options, forks, quarantine, supervise, metrics)
        return composer.compose(first, ready, forget)

    return Engine(options, forks, inspector, supervise, compose, Registry(), metrics)


class Composer:
    """Creates a Core, and adds workers to it: each when it is ready for the first time."""

    def __init__(
        self,
        options: EngineOptions,
        forks: ForkServerClient,
        quarantine: Quarantine,
        supervise: Supervise,
        metrics: Metrics,
    ) -> None:
        self._options = options
        self._forks = forks
        self._quarantine = quarantine
        self._supervise = supervise
        self._metrics = metrics
        self._work_queues = WorkQueues.new()
        self._host: MemoryPool | None = None
        uids = options.isolated_uids
        pool = users.UserPool(uids, options.model_roots) if uids else None
        self._users = users.ModelUsers(pool)

    def compose(self, first: Supervisor, ready: Ready, forget: Forget) -> Core:
        """`first`: the supervisor of the worker that is ready."""
        on_gpu = ready.device != CPU
        available = 0 if on_gpu else cores.available()
        self._work_queues = WorkQueues.new()  # an attempt before may have failed half-way
        fleets: dict[str, Fleet] = {}
        residencies: dict[str, Residency] = {}
        scheduler = Scheduler(residencies, self._metrics, Cores(available))
        recovery = Recovery(fleets, residencies, scheduler, self._metrics, forget)
        core = Core(ready.device.partition(":")[0], fleets, residencies, scheduler, recovery, [])
        self._host = admission.host_pool(self._options, ready)
        self._add(core, first, ready)
        for device in self._further(ready, available):
            self._start(core, device)
        self._quarantine.start()
        return core

    def _further(self, ready: Ready, available: int) -> list[str]:
        """The devices of the other main workers: on GPUs one for each, on a CPU several for all cores."""
        if ready.device == CPU:
            return [CPU] * ((self._options.workers or cores.workers(available)) - 1)
        if self._options.device not in ALL_GPUS:
            return []
        return [f"cuda:{number}" for number in range(1, ready.devices)]

    def _start(self, core: Core, device: str) -> None:
        """Start a main worker in the background."""
        worker: DeviceWorker | None = None

        def on_ready(ready: Ready) -> None:
            nonlocal worker
            if worker is None:
                core.starting.remove(supervisor)
                worker = self._add(core, supervisor, ready)
            core.recovery.device_ready(worker)

        def on_lost() -> None:
            if worker is not None:
                core.recovery.device_lost(worker)

        def on_examined(death: Death) -> bool:
            return worker is not None and core.recovery.examined(worker, death)

        supervisor = self._supervise(device, on_ready, on_lost, on_examined)
        core.starting.append(supervisor)
        supervisor.start()

    def _add(self, core: Core, supervisor: Supervisor, ready: Ready) -> DeviceWorker:
        """Let a main worker take part in the work."""
        device = ready.device
        number = len(core.fleets[device].mains) + 1 if device in core.fleets else 1
        name = f"{device} {number}" if device == CPU else device
        worker = DeviceWorker(name, device, supervisor, self._work_queues)
        if device not in core.fleets:
            self._add_device(core, worker, ready)
        else:
            core.fleets[device].join(worker)
        models = partial(core.residencies[device].open_in, name)
        self._metrics.watch_worker(name, models, worker.total_s, lambda: supervisor.running)
        return worker

    def _add_device(self, core: Core, main: DeviceWorker, ready: Ready) -> None:
        options, device = self._options, ready.device
        nbytes = admission.device_nbytes(options, ready)
        processes = admission.process_options(options, ready, nbytes)

        def spawn(name: str, work_queues: WorkQueues, *, alone: bool = False) -> DeviceWorker:
            supervisor = self._supervise(
                device,
                lambda _: core.recovery.device_ready(worker),
                lambda: core.recovery.device_lost(worker),
                lambda death: core.recovery.examined(worker, death),
                alone=alone,
            )
            worker = DeviceWorker(name, device, supervisor, work_queues, OTHERS_GRACE_S)
            return worker

        isolated_lost = partial(core.recovery.isolated_lost, device)
        spares = PreforkPool(self._forks)
        quarantine, users = self._quarantine, self._users
        fleet = Fleet(main, processes, spawn, spares, quarantine, isolated_lost, users)
        core.fleets[device] = fleet
        cost = eviction.POLICIES[options.eviction]
        core.residencies[device] = Residency(fleet, nbytes, self._host, cost)
        self._metrics.watch_device(device, core.residencies[device].device)
