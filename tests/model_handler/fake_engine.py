"""A real engine whose device workers are fakes."""

import asyncio
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import cast

from benchmarks.simulation.measuring.idle_front import DirectInspector
from model_handler.engine.factory import assemble
from model_handler.messages import Ready
from model_handler.options import EngineOptions
from model_handler.processes.deaths import Death
from model_handler.processes.forkserver_client import ForkServerClient
from model_handler.processes.inspector import Inspector
from model_handler.processes.prefork import PreforkPool
from model_handler.processes.quarantine import Quarantine
from model_handler.processes.supervisor import Supervisor
from tests.model_handler.fake_supervisor import FakeSupervisor, turns


class FakeEngine:
    """An engine with FakeSupervisors. Main workers start when the test says so, others at once."""

    def __init__(self, options: EngineOptions, device: str = "cpu", workers: int = 1) -> None:
        self.supervisors: list[FakeSupervisor] = []
        self._mains = workers
        forks = ForkServerClient()
        self.engine = assemble(
            replace(options, workers=workers),
            forks,
            cast("Inspector", DirectInspector(options)),
            Quarantine(PreforkPool(forks), enabled=False),
            self.supervise,
        )
        (self.main,) = self.supervisors
        self.main.device = device

    def supervise(
        self,
        device: str,
        on_ready: Callable[[Ready], None],
        on_lost: Callable[[], None],
        on_examined: Callable[[Death], bool],
        *,
        alone: bool = False,
    ) -> Supervisor:
        calls = on_ready, on_lost, on_examined
        supervisor = FakeSupervisor(lambda _: 1000, *calls, alone=alone)
        supervisor.device = device
        supervisor.starts_at_once = len(self.supervisors) >= self._mains
        self.supervisors.append(supervisor)
        return cast("Supervisor", supervisor)  # it has all that an engine uses of one

    async def load(self, name: str, directory: Path) -> None:
        load = asyncio.create_task(self.engine.load(name, str(directory)))
        await self.go_on_until(load.done)
        load.result()

    async def go_on_until(self, done: Callable[[], bool]) -> None:
        """Let every call pass until `done`."""
        while not done():
            for supervisor in self.supervisors:
                await supervisor.go_on_until(lambda: True)
                if supervisor.calls and not done():
                    supervisor.let_go(0)
            await asyncio.wait([asyncio.create_task(turns())])

    def names(self) -> list[str]:
        return [model.name for model in self.engine.models()]
