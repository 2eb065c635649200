"""The engine's core with several fake workers and a clock that the test moves."""

import asyncio
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import cast

from model_handler.artifacts.artifact import Artifact
from model_handler.artifacts.conventions import Convention
from model_handler.artifacts.properties import Properties
from model_handler.engine.core import Core
from model_handler.engine.device_worker import DeviceWorker, WorkQueues
from model_handler.engine.fleet import Fleet
from model_handler.engine.metrics import Metrics
from model_handler.engine.queues import Cores
from model_handler.engine.recovery import Recovery
from model_handler.engine.scheduler import Scheduler
from model_handler.memory.pools import MemoryPool
from model_handler.memory.residency import Residency
from model_handler.messages import Ready
from model_handler.model import Entry, Model, ModelInfo
from model_handler.options import ProcessOptions
from model_handler.processes.deaths import Death
from model_handler.processes.forkserver_client import ForkServerClient
from model_handler.processes.prefork import PreforkPool
from model_handler.processes.quarantine import Quarantine
from model_handler.processes.supervisor import Supervisor
from model_handler.processes.users import ModelUsers
from tests.model_handler.fake_supervisor import ProcessSupervisor

SIZES = {1: 30, 2: 40, 3: 50, 4: 20, 5: 25, 6: 20}
GENERATING = 5
ON_CPU = 6  # computes in main memory beside a GPU
GRAPH = 4  # has a process of its own on a GPU
CAPACITY = 100  # of each device
PRIVATE_NBYTES = 4  # of each model in each worker
CONTEXT_NBYTES = 10  # of each further process on a GPU
LOAD_S = 0.02
UNDERESTIMATE = 7  # of a load, corrected by what is measured


def model(key: int) -> Model:
    conventions = {ON_CPU: Convention.ONNX, GRAPH: Convention.TORCHSCRIPT}
    task = "text-generation" if key == GENERATING else ""
    convention = conventions.get(key, Convention.HUGGING_FACE)
    nbytes = SIZES[key] - UNDERESTIMATE
    artifact = Artifact(Path("/x"), convention, task, "auto", nbytes, Properties())
    return Model(Entry(key, ModelInfo(str(key), "/x")), artifact)


class Workers:
    """`devices`: one for each main worker. `real_nbytes`: memory of each GPU, at most its budget."""

    def __init__(
        self,
        devices: Iterable[str],
        cores: int,
        host: MemoryPool | None,
        forget: Callable[[Model, str], None],
    ) -> None:
        self.gpu = host is not None
        self.real_nbytes = CAPACITY
        self.all: list[ProcessSupervisor] = []
        self._host = host
        self._work_queues = WorkQueues.new()
        self.cores = Cores(0 if self.gpu else cores)
        fleets: dict[str, Fleet] = {}
        residencies: dict[str, Residency] = {}
        self.metrics = Metrics()
        scheduler = Scheduler(residencies, self.metrics, self.cores)
        recovery = Recovery(fleets, residencies, scheduler, self.metrics, forget)
        kind = "cuda" if self.gpu else "cpu"
        self.core = Core(kind, fleets, residencies, scheduler, recovery, [])
        for device in devices:
            self._add(device)

    def _add(self, device: str) -> None:
        main = self._worker(f"main {len(self.all)}", self._work_queues, device=device)
        if device in self.core.fleets:
            self.core.fleets[device].join(main)
            return
        fleet = Fleet(
            main,
            ProcessOptions(device, worker_nbytes=CONTEXT_NBYTES),
            partial(self._worker, device=device),
            PreforkPool(ForkServerClient()),
            Quarantine(PreforkPool(ForkServerClient()), enabled=False),
            lambda process: None,
            ModelUsers(None),
        )
        self.core.fleets[device] = fleet
        self.core.residencies[device] = Residency(fleet, CAPACITY, self._host)

    def _worker(
        self, name: str, work_queues: WorkQueues, *, alone: bool = False, device: str
    ) -> DeviceWorker:
        def ready(_: Ready) -> None:
            self.core.recovery.device_ready(worker)

        def lost() -> None:
            self.core.recovery.device_lost(worker)

        def examined(death: Death) -> bool:
            return self.core.recovery.examined(worker, death)

        fake = ProcessSupervisor(
            lambda one: SIZES[one.model_id], ready, lost, examined, alone=alone
        )
        fake.device = device
        fake.private_nbytes, fake.load_s = PRIVATE_NBYTES, LOAD_S
        fake.free_nbytes = lambda: self._free_nbytes(device)
        worker = DeviceWorker(name, device, cast("Supervisor", fake), work_queues)
        self.all.append(fake)
        return worker

    def _free_nbytes(self, device: str) -> int | None:
        if not self.gpu:
            return None
        held = [key for one in self.all if one.device == device for key in one.held - {ON_CPU}]
        return max(0, self.real_nbytes - sum(SIZES[key] for key in held))

    def of(self, worker: DeviceWorker) -> ProcessSupervisor:
        return cast("ProcessSupervisor", worker.supervisor)

    def carrier(self, device: str, replica: Model) -> ProcessSupervisor:
        return self.of(self.core.fleets[device].carrier(replica))

    # ---- what can happen ----

    @property
    def busy(self) -> list[ProcessSupervisor]:
        return [one for one in self.all if one.calls]

    @property
    def running(self) -> list[ProcessSupervisor]:
        return [one for one in self.all if one.running]

    @property
    def to_start(self) -> list[ProcessSupervisor]:
        return [one for one in self.all if not one.running and not one.stopped]

    async def start_all(self) -> None:
        while down := self.to_start:
            down[0].arrive()
            await asyncio.sleep(0)
