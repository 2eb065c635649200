"""One setting of the simulation: a machine, its workers, closed-loop clients, and the figures of a window."""

import asyncio
import itertools
from collections.abc import Iterator
from typing import Any

import msgspec

from benchmarks import traffic
from benchmarks.simulation import virtual_time
from benchmarks.simulation.costs import Costs
from benchmarks.simulation.event_loop import SimulatedEventLoop
from benchmarks.simulation.machine import SimulatedMachine, SimulatedProcess
from benchmarks.simulation.simulated_container import SimulatedContainer

SEED = 7
SPECIAL_TOKENS = 2
SLOW_SHARE = 0.99
LARGE_EVERY = 10  # in a mix every tenth model is large


class SimulatedSetting(msgspec.Struct, frozen=True, kw_only=True):
    """`mixed`: every tenth model is a bert-base. `front`: factor of the front's cost; `fronts`: containers
    that share the machine, clients and workers equally. `scan`: factor of the part of the scheduler's time
    that grows with models and workers. `local`: the load generator runs on the machine."""

    cores: int
    workers: int
    clients: int
    models: int
    skew: float = 0.9
    mixed: bool = False
    front: float = 1.0
    fronts: int = 1
    scan: float = 1.0
    local: bool = False
    warm_up_s: float = 2.0
    seconds: float = 2.0

    def kinds(self) -> list[str]:
        large = LARGE_EVERY // 2
        return [
            "bert-base" if self.mixed and number % LARGE_EVERY == large else "tiny"
            for number in range(self.models)
        ]


class Figures(msgspec.Struct, frozen=True):
    """`cores_busy` and `front_busy`: by all processes, and by the busiest front. `batch`: requests per batch.
    `replicas`: opened in further workers. `pump_us`: real CPU time of the scheduler's turns per request."""

    per_s: float
    p50_ms: float
    p99_ms: float
    cores_busy: float
    front_busy: float
    batch: float
    replicas: int
    pump_us: float


def simulate(setting: SimulatedSetting, costs: Costs) -> Figures:
    async def run() -> Figures:
        return await _Experiment(setting, costs).run()

    return virtual_time.run(run())


class _Experiment:
    def __init__(self, setting: SimulatedSetting, costs: Costs) -> None:
        self._setting = setting
        self._costs = costs
        self._latencies: list[float] = []
        self._machine = SimulatedMachine(setting.cores)
        self._containers = [self._container() for _ in range(setting.fronts)]

    async def run(self) -> Figures:
        setting = self._setting
        for container in self._containers:
            await container.load()
        clients = list(self._clients())
        await asyncio.sleep(setting.warm_up_s)
        before = self._counts()
        self._latencies.clear()
        await asyncio.sleep(setting.seconds)
        figures = self._figures(before, self._counts())
        for client in clients:
            client.cancel()
        return figures

    def _clients(self) -> Iterator[asyncio.Task[None]]:
        setting, calls, generator = self._setting, self._calls(), self._generator()
        for number in range(setting.clients):
            container = self._containers[number % setting.fronts]
            yield asyncio.create_task(self._client(container, calls, generator))

    def _container(self) -> SimulatedContainer:
        setting = self._setting
        return SimulatedContainer(
            self._machine,
            self._costs,
            setting.kinds(),
            max(1, setting.workers // setting.fronts),
            max(1, setting.cores // setting.fronts),
            setting.front,
            setting.scan,
        )

    def _generator(self) -> SimulatedEventLoop | None:
        if not self._setting.local:
            return None
        return SimulatedEventLoop(SimulatedProcess(self._machine), 0.0)

    def _calls(self) -> Iterator[tuple[int, int]]:
        """The requests of all clients: models by Zipf's law, and tokens."""
        setting = self._setting
        shares = traffic.zipf(setting.models, setting.skew)
        lengths = [len(text.split()) + SPECIAL_TOKENS for text in traffic.ragged(256, SEED)]
        models = traffic.draws(shares, SEED)
        texts = traffic.draws([1.0] * len(lengths), SEED + 1)
        tokens = [lengths[text] for text in texts]
        return itertools.cycle(zip(models, tokens, strict=True))

    async def _client(
        self,
        container: SimulatedContainer,
        calls: Iterator[tuple[int, int]],
        generator: SimulatedEventLoop | None,
    ) -> None:
        """One request at a time, each the next of `calls`."""
        loop = asyncio.get_running_loop()
        for model, tokens in calls:
            began = loop.time()
            await container.invoke(model, tokens)
            self._latencies.append(loop.time() - began)
            if generator is not None:
                await self._work(generator)

    async def _work(self, generator: SimulatedEventLoop) -> None:
        """The load generator's part of a request."""
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        generator.post(self._costs.client_s, lambda: done.set_result(None))
        await done

    # ---- figures ----

    def _counts(self) -> dict[str, Any]:
        self._machine.advance()
        containers = self._containers
        return {
            "busy_s": self._machine.busy_s,
            "front_s": [container.front.process.used_s() for container in containers],
            "answers": sum(container.answers for container in containers),
            "batches": sum(container.batches for container in containers),
            "pump_s": sum(container.scheduler.pump_s for container in containers),
        }

    def _figures(self, before: dict[str, Any], after: dict[str, Any]) -> Figures:
        seconds, ordered = self._setting.seconds, sorted(self._latencies)
        fronts = zip(after["front_s"], before["front_s"], strict=True)
        answers = after["answers"] - before["answers"]
        return Figures(
            per_s=len(ordered) / seconds,
            p50_ms=traffic.percentile(ordered, 0.5) * 1e3,
            p99_ms=traffic.percentile(ordered, SLOW_SHARE) * 1e3,
            cores_busy=(after["busy_s"] - before["busy_s"]) / seconds,
            front_busy=max(one - other for one, other in fronts) / seconds,
            batch=answers / (after["batches"] - before["batches"]),
            replicas=sum(container.replicas() for container in self._containers),
            pump_us=(after["pump_s"] - before["pump_s"]) / answers * 1e6,
        )
