"""The platform's behaviour for more models than fit into memory: load on demand, unload on 507.

Invariants: at most one load per model is in progress; a model with a request in flight is not unloaded.
"""

import asyncio
import itertools
import json
import time
from collections import Counter, OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import msgspec

from benchmarks.connection import Connection, connect, request
from benchmarks.load import Latency, Sample, latency

OK, FULL = 200, 507
MOST = 64  # connections


@dataclass(frozen=True)
class Trace:
    """`order` are indices into `models`; bodies are sent in turn."""

    models: tuple[str, ...]
    order: list[int]
    bodies: list[str]
    seconds: float


class Outcome(msgspec.Struct, frozen=True):
    """The latency of a miss includes the load, and the unloads before it."""

    per_s: float
    hit_ratio: float
    hits: Latency
    misses: Latency | None
    refusals: int
    statuses: dict[str, int]


class Client:
    """Opens one connection per concurrent request, at most MOST."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._free: list[Connection] = []
        self._answers: dict[Connection, asyncio.Future[int]] = {}

    async def ask(self, method: str, path: str, body: str = "") -> int:
        """The status."""
        connection = self._free.pop() if self._free else await connect(self._port, self._done)
        answer = self._answers[connection] = asyncio.get_running_loop().create_future()
        connection.send(request(method, path, body.encode()))
        return int(await answer)

    def _done(self, connection: Connection, status: int) -> None:
        if connection.open and len(self._free) < MOST:
            self._free.append(connection)
        self._answers.pop(connection).set_result(status)

    def close(self) -> None:
        for connection in self._free:
            connection.close()


class Platform:
    def __init__(self, client: Client, root: Path) -> None:
        self._client = client
        self._root = root
        self._loaded: OrderedDict[str, None] = OrderedDict()  # least recently used first
        self._loads: dict[str, asyncio.Task[None]] = {}
        self._busy: Counter[str] = Counter()
        self._freed = asyncio.Event()
        self.refusals = 0

    async def invoke(self, model: str, body: str) -> tuple[bool, int]:
        """Whether the model was there, and the status."""
        self._busy[model] += 1
        try:
            hit = model in self._loaded
            if not hit:
                await self._fetched(model)
            self._loaded.move_to_end(model)
            return hit, await self._client.ask("POST", f"/models/{model}/invoke", body)
        finally:
            self._busy[model] -= 1
            self._freed.set()

    async def _fetched(self, model: str) -> None:
        task = self._loads.get(model)
        if task is None:
            task = self._loads[model] = asyncio.ensure_future(self._fetch(model))
        await asyncio.shield(task)

    async def _fetch(self, model: str) -> None:
        while (status := await self.load(model)) == FULL:
            self.refusals += 1
            await self._make_room()
        if status != OK:
            raise RuntimeError(f"loading {model} was answered {status}")
        self._loaded[model] = None
        del self._loads[model]

    async def load(self, model: str) -> int:
        directory = (self._root / model / "model").resolve()
        document = {"model_name": model, "url": str(directory)}
        return await self._client.ask("POST", "/models", json.dumps(document))

    async def _make_room(self) -> None:
        victim = self._victim()
        while victim is None:
            self._freed.clear()
            await self._freed.wait()
            victim = self._victim()
        del self._loaded[victim]
        status = await self._client.ask("DELETE", f"/models/{victim}")
        if status != OK:
            raise RuntimeError(f"unloading {victim} was answered {status}")

    def _victim(self) -> str | None:
        return next((model for model in self._loaded if not self._busy[model]), None)


async def replay(port: int, trace: Trace, clients: int, root: Path) -> Outcome:
    """Run a closed loop, after unloading models of an earlier call."""
    client = Client(port)
    for model in trace.models:
        await client.ask("DELETE", f"/models/{model}")
    platform = Platform(client, root)
    order = itertools.cycle(trace.order)
    bodies = itertools.cycle(trace.bodies)
    samples: list[tuple[bool, Sample]] = []
    began = time.perf_counter()

    async def one_client() -> None:
        while (due := time.perf_counter()) - began < trace.seconds:
            model = trace.models[next(order)]
            hit, status = await platform.invoke(model, next(bodies))
            samples.append((hit, Sample(model, due, time.perf_counter(), status)))

    await asyncio.gather(*(one_client() for _ in range(clients)))
    lasted = time.perf_counter() - began
    client.close()
    return _outcome(samples, lasted, platform.refusals)


def _outcome(samples: list[tuple[bool, Sample]], lasted: float, refusals: int) -> Outcome:
    good = [(hit, sample) for hit, sample in samples if sample.status == OK]
    hits = [sample for hit, sample in good if hit]
    misses = [sample for hit, sample in good if not hit]
    bad = Counter(str(sample.status) for _, sample in samples if sample.status != OK)
    return Outcome(
        len(good) / lasted,
        len(hits) / len(good),
        latency(hits),
        latency(misses) if misses else None,
        refusals,
        dict(bad),
    )


async def load_all(port: int, models: Iterable[str], hands: int, root: Path) -> None:
    """Load all models, `hands` at a time. Raises RuntimeError if a load fails."""
    client = Client(port)
    platform = Platform(client, root)
    queue = list(models)

    async def hand() -> None:
        while queue:
            model = queue.pop()
            if (status := await platform.load(model)) != OK:
                raise RuntimeError(f"loading {model} was answered {status}")

    await asyncio.gather(*(hand() for _ in range(hands)))
    client.close()
