"""The load generator, a separate process: `python -m benchmarks.load < plan.json > outcome.json`.

Open loop: arrival times are computed in advance, and latency is measured from the arrival time, so that it
includes the delay of a server that falls behind. Closed loop: `clients` clients, each with one request at a
time. In both, at most `clients` requests are in flight.
"""

import asyncio
import contextlib
import subprocess
import sys
import time
from collections import Counter, defaultdict, deque
from collections.abc import Iterator

import msgspec
import uvloop

from benchmarks import traffic
from benchmarks.connection import LOST, Connection, connect, request

OK = 200
PATIENCE_S = 60.0  # for what is in flight at the end
clock = time.perf_counter  # uvloop's own counts whole milliseconds


class RequestKind(msgspec.Struct, frozen=True):
    """Requests with a common result: they go to one path and use its bodies in turn."""

    name: str
    path: str
    bodies: list[str]
    weight: float = 1.0


class Plan(msgspec.Struct, frozen=True):
    """`rate` per second selects the open loop. Requests of the first `warmup_s` are not counted."""

    port: int
    kinds: list[RequestKind]
    seconds: float
    clients: int
    rate: float | None = None
    warmup_s: float = 0.5
    seed: int = 0


class Latency(msgspec.Struct, frozen=True):
    """Latency of the requests with status 200, in milliseconds."""

    count: int
    p50: float
    p95: float
    p99: float
    longest: float


class RequestOutcome(msgspec.Struct, frozen=True):
    """`statuses` counts responses other than 200 (0: no response); `waited` counts arrivals while all clients
    were busy; `lasted_s` is the time from the first request to the last response, warm-up included."""

    per_s: float
    all: Latency
    kinds: dict[str, Latency]
    statuses: dict[str, int]
    waited: int
    generator_cpu_s: float
    lasted_s: float


class Failed(Exception):
    """No request got status 200."""


# ---- for the process that measures ----


def start(plan: Plan) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "benchmarks.load"]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert process.stdin is not None
    process.stdin.write(msgspec.json.encode(plan))
    process.stdin.close()
    process.stdin = None  # it is closed: communicate() must not flush it
    return process


def finish(process: subprocess.Popen[bytes]) -> RequestOutcome:
    output, _ = process.communicate()
    if process.returncode != 0:
        raise Failed(f"the load generator ended with {process.returncode}")
    return msgspec.json.decode(output, type=RequestOutcome)


def run(plan: Plan) -> RequestOutcome:
    return finish(start(plan))


# ---- the generator ----


class Sample(msgspec.Struct, frozen=True):
    kind: str
    due: float
    done: float
    status: int


class Loop:
    """Sends due requests on free connections; `closed` selects the closed loop."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._requests = _requests(plan)
        self._loop = asyncio.get_running_loop()
        self._began = 0.0
        self._free: list[Connection] = []
        self._due: deque[float] = deque()
        self._sent: dict[Connection, tuple[str, float]] = {}
        self._arrivals: deque[float] = deque(_arrivals(plan))
        self._finished = asyncio.Event()
        self._reconnecting: set[asyncio.Task[None]] = set()
        self.samples: list[Sample] = []
        self.waited = 0

    async def run(self) -> None:
        plan = self._plan
        for _ in range(plan.clients):
            self._free.append(await connect(plan.port, self._done))
        self._began = clock()
        if plan.rate is None:
            self._due.extend([self._began] * plan.clients)
            self._dispatch()
        else:
            self._tick()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(plan.seconds + PATIENCE_S):
                await self._finished.wait()
        now = clock() - self._began
        for name, due in self._sent.values():
            self.samples.append(Sample(name, due - self._began, now, LOST))

    def _tick(self) -> None:
        """Open loop: send all due requests, then sleep until the next arrival."""
        now = clock()
        while self._arrivals and self._began + self._arrivals[0] <= now:
            self._due.append(self._began + self._arrivals.popleft())
        self.waited += max(0, len(self._due) - len(self._free))
        self._dispatch()
        if self._arrivals:
            self._loop.call_later(self._began + self._arrivals[0] - now, self._tick)
        self._note_end()

    def _dispatch(self) -> None:
        while self._due and self._free:
            connection = self._free.pop()
            name, payload = next(self._requests)
            self._sent[connection] = (name, self._due.popleft())
            connection.send(payload)

    def _done(self, connection: Connection, status: int) -> None:
        name, due = self._sent.pop(connection)
        now = clock()
        self.samples.append(Sample(name, due - self._began, now - self._began, status))
        if self._plan.rate is None and now - self._began < self._plan.seconds:
            self._due.append(now)
        if connection.open:
            self._free.append(connection)
            self._dispatch()
            self._note_end()
        else:
            task = asyncio.ensure_future(self._reconnect())
            self._reconnecting.add(task)
            task.add_done_callback(self._reconnecting.discard)

    async def _reconnect(self) -> None:
        with contextlib.suppress(OSError):
            self._free.append(await connect(self._plan.port, self._done))
        self._dispatch()
        self._note_end()

    def _note_end(self) -> None:
        if not (self._sent or self._due or self._arrivals):
            self._finished.set()


def _requests(plan: Plan) -> Iterator[tuple[str, bytes]]:
    """Yield requests without end: a kind is drawn by its weight, and its bodies are used in turn."""
    payloads = [
        [request("POST", kind.path, body.encode()) for body in kind.bodies] for kind in plan.kinds
    ]
    places = [0] * len(plan.kinds)
    for index in traffic.cycle(traffic.draws([kind.weight for kind in plan.kinds], plan.seed)):
        at = places[index]
        places[index] = (at + 1) % len(payloads[index])
        yield plan.kinds[index].name, payloads[index][at]


def _arrivals(plan: Plan) -> list[float]:
    return [] if plan.rate is None else traffic.poisson(plan.rate, plan.seconds, plan.seed)


# ---- the outcome ----


def summary(plan: Plan, samples: list[Sample], waited: int, cpu_s: float) -> RequestOutcome:
    """Raises Failed if no request got status 200."""
    counted = [each for each in samples if each.due >= plan.warmup_s]
    good = [each for each in counted if each.status == OK]
    if not good:
        raise Failed(f"no answer was 200: {Counter(each.status for each in samples)}")
    by_kind: defaultdict[str, list[Sample]] = defaultdict(list)
    for each in good:
        by_kind[each.kind].append(each)
    statuses = Counter(str(each.status) for each in counted if each.status != OK)
    within = sum(each.done >= plan.warmup_s and each.status == OK for each in samples)
    lasted_s = max(each.done for each in samples)
    return RequestOutcome(
        within / (lasted_s - plan.warmup_s),
        latency(good),
        {name: latency(each) for name, each in sorted(by_kind.items())},
        dict(statuses),
        waited,
        cpu_s,
        lasted_s,
    )


def latency(samples: list[Sample]) -> Latency:
    ordered = sorted((each.done - each.due) * 1e3 for each in samples)
    p50, p95, p99 = (traffic.percentile(ordered, share) for share in (0.5, 0.95, 0.99))
    return Latency(len(ordered), p50, p95, p99, ordered[-1])


async def generate(plan: Plan) -> RequestOutcome:
    loop = Loop(plan)
    await loop.run()
    return summary(plan, loop.samples, loop.waited, time.process_time())


def main() -> None:
    plan = msgspec.json.decode(sys.stdin.buffer.read(), type=Plan)
    outcome = uvloop.run(generate(plan))
    sys.stdout.buffer.write(msgspec.json.encode(outcome))


if __name__ == "__main__":
    main()
