"""A server process with a neighbour and /ping asked all the while: what no attack may change."""

import contextlib
import http.client
import json
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from tests import artifacts
from tests.contract.client import check_error, path_of
from tests.contract.targets import (
    RESERVED,
    ServerProcess,
    address,
    answering,
    launch_process,
    processes,
)
from tests.contract.waiting import until
from tests.hostile.observers import JSON, Observer, Seen, exchange, longest_outage, same

# An attack that succeeds may take the memory of its server's processes, not that of the machine
BOUNDED = ("prlimit", f"--as={10 << 30}")
SLOWER_S = 1.0  # than the neighbour's longest time alone
OUTAGE_S = 1.5  # where a process that computes for the neighbour had to be replaced
PING_S = 0.5
FRONT_GROWTH_NBYTES = 48 << 20
WORKER_GROWTH_NBYTES = 192 << 20  # of each process: allocators keep some of what was freed
SPARES = 2  # preforked processes, which may have been on their way when the processes were counted
SETTLE_S = 10.0
START_S = 90.0  # a first load waits until libraries are imported, at most its own time limit
ALONE = 40  # answers of the neighbour without an attack
QUESTION = json.dumps({"inputs": "the quick brown fox"}).encode()
TIMEOUT_S = 40.0


@dataclass(frozen=True, slots=True)
class Reply:
    """`seconds`: from the request's first byte to the answer's last one."""

    status: int
    body: bytes
    seconds: float

    @property
    def message(self) -> str:
        return str(json.loads(self.body).get("message", "")) if self.status >= 400 else ""


@dataclass
class WatchedServer:
    """`root`: directory of the artifacts. `alone_s`: the neighbour's longest time without an attack.
    `harmed`: a check failed, so that the server is of no use for further ones."""

    process: ServerProcess
    root: Path
    alone_s: float = 0.0
    harmed: bool = False
    neighbour: Observer = field(init=False)
    pings: Observer = field(init=False)
    _loaded: set[str] = field(default_factory=set)
    _main_worker: psutil.Process | None = None

    @property
    def address(self) -> tuple[str, int]:
        return address(self.process)

    def send(
        self, method: str, path: str, body: bytes = b"", headers: Mapping[str, str] = JSON
    ) -> Reply:
        """On a connection of its own. Errors must have the documented body."""
        connection = http.client.HTTPConnection(*self.address, timeout=TIMEOUT_S)
        began = time.monotonic()
        with contextlib.closing(connection):
            status, answer = exchange(connection, method, path, body, headers)
        reply = Reply(status, answer, time.monotonic() - began)
        if status >= 400:
            check_error(status, "application/json", answer)
        return reply

    def load(self, name: str, directory: Path) -> Reply:
        document = {"model_name": name, "url": str(directory)}
        return self.send("POST", "/models", json.dumps(document).encode())

    def loaded(self, name: str, write: Callable[[Path], object]) -> None:
        """Load a sound model unless it is loaded already."""
        if name not in self._loaded:
            write(self.root / name / "model")
            reply = self.load(name, self.root / name / "model")
            assert reply.status == 200, reply
            self._loaded.add(name)

    def unload(self, name: str) -> Reply:
        return self.send("DELETE", path_of(name))

    def invoke(
        self, name: str, body: bytes = QUESTION, content_type: str = "application/json"
    ) -> Reply:
        headers = {"Content-Type": content_type}
        return self.send("POST", f"{path_of(name)}/invoke", body, headers)

    def gauges(self) -> dict[str, float]:
        lines = self.send("GET", "/metrics").body.decode().splitlines()
        pairs = (line.rsplit(" ", 1) for line in lines if line and not line.startswith("#"))
        return {name: float(value) for name, value in pairs}

    def main_worker(self) -> int | None:
        """Process id of the worker in which the neighbour was at the start; None if it ended."""
        worker = self._main_worker
        return worker.pid if worker is not None and worker.is_running() else None

    def front_nbytes(self) -> int:
        assert self.process.pid is not None
        return self.resident()[self.process.pid]

    def resident(self) -> dict[int, int]:
        """Resident bytes of the server's process and of all its descendants, by process id."""
        found = {}
        for process in processes(self.process):
            with contextlib.suppress(psutil.NoSuchProcess):
                found[process.pid] = int(process.memory_info().rss)
        return found

    def start(self) -> None:
        """Load the neighbour, and measure how long it takes alone."""
        directory = artifacts.bert_classifier(self.root / "neighbour" / "model", seed=11)
        until(lambda: self.load("neighbour", directory).status == 200, within_s=START_S)
        (self._main_worker,) = [
            process for process in processes(self.process) if process.name() == "mme-worker"
        ]
        expected = json.loads(self.invoke("neighbour").body)
        path = f"{path_of('neighbour')}/invoke"
        self.neighbour = Observer(self.address, "POST", path, QUESTION, same(expected))
        self.pings = Observer(self.address, "GET", "/ping", b"", lambda body: True)
        self.neighbour.start()
        self.pings.start()
        until(lambda: len(self.neighbour.seen) >= ALONE and len(self.pings.seen) >= ALONE)
        self.alone_s = max(each.seconds for each in self.neighbour.seen)

    def stop(self) -> None:
        self.process.stop()  # first: requests that are not answered end with it
        self.neighbour.stop()
        self.pings.stop()

    @contextlib.contextmanager
    def watched(self, *, replaced: bool = False, outage_s: float = OUTAGE_S) -> Iterator[None]:
        """Check during the block that nobody else notices it. At its end the ledger is as before, and soon
        after so is the memory. `replaced`: a process that computes for the neighbour has to die."""
        self.harmed = True
        # Making a large body holds up the threads of this process, which ask
        made = time.monotonic()
        until(lambda: min(self._latest(each) for each in (self.neighbour, self.pings)) > made)
        reserved = self.gauges()[RESERVED]
        resident = self.resident()
        began = time.monotonic()
        yield
        ended = time.monotonic()
        until(lambda: min(self._latest(each) for each in (self.neighbour, self.pings)) > ended)
        check_pings(self.pings.since(began))
        limit_s = outage_s if replaced else None
        check_neighbour(self.neighbour.since(began), self.alone_s, limit_s)
        self.settled(reserved, resident)
        self.harmed = False

    def settled(self, reserved: float, resident: dict[int, int]) -> None:
        """Wait until ledger, processes and their memory are as before."""
        with contextlib.suppress(AssertionError):
            until(lambda: not self._excess(reserved, resident), within_s=SETTLE_S)
        kept = self._excess(reserved, resident)
        assert not kept, f"more than allowed is kept: {kept}"

    def _excess(self, reserved: float, before: dict[int, int]) -> dict[str, int]:
        """What is more than before: bytes in the ledger, processes, and bytes of each process."""
        now = self.resident()
        grown = {pid: now[pid] - before[pid] for pid in now.keys() & before.keys()}
        front = self.process.pid
        over = {
            "ledger": int(self.gauges()[RESERVED] - reserved),
            "processes": len(now) - len(before) - SPARES,
            **{
                f"process {pid}": nbytes
                - (FRONT_GROWTH_NBYTES if pid == front else WORKER_GROWTH_NBYTES)
                for pid, nbytes in grown.items()
            },
        }
        return {name: excess for name, excess in over.items() if excess > 0}

    @staticmethod
    def _latest(observer: Observer) -> float:
        """When the latest request began that was answered."""
        return observer.seen[-1].began if observer.seen else 0.0


def check_pings(seen: list[Seen]) -> None:
    wrong = [each for each in seen if not each.right]
    assert not wrong, f"{len(wrong)} of {len(seen)} pings are not 200: {wrong[0]}"
    slowest = max(each.seconds for each in seen)
    assert slowest < PING_S, f"a ping took {slowest:.2f} s"


def check_neighbour(seen: list[Seen], alone_s: float, outage_s: float | None) -> None:
    """`outage_s`: how long it may be unavailable while its process is replaced; None: it is not."""
    wrong = [each for each in seen if not each.right]
    assert not [each for each in wrong if each.status in (0, 200)], f"wrong answers: {wrong[:3]}"
    assert outage_s is not None or not wrong, f"{len(wrong)} of {len(seen)} are errors: {wrong[0]}"
    outage = longest_outage(seen)
    assert outage <= (outage_s or 0.0), f"without the neighbour for {outage:.2f} s"
    slowest = max(each.seconds for each in seen)
    limit = alone_s + (outage_s or SLOWER_S)
    assert slowest <= limit, f"the neighbour took {slowest:.2f} s, alone {alone_s:.2f} s"


class WatchedServers:
    """One server at a time, started by `get`, and replaced when an attack has harmed it."""

    def __init__(self, directory: Path, **environment: str) -> None:
        self._directory = directory
        self._environment = environment
        self._count = 0
        self._running: WatchedServer | None = None

    def get(self) -> WatchedServer:
        if self._running is not None and self._running.harmed:
            self.stop()
        if self._running is None:
            self._running = self._start()
        return self._running

    @contextlib.contextmanager
    def standalone(self, models: Path) -> Iterator[WatchedServer]:
        """A server that serves the models in a directory, without a platform and without a neighbour."""
        scratch = self._directory / "standalone"
        scratch.mkdir()
        environment = {"SAGEMAKER_MULTI_MODEL": "false", "MME_MODEL_DIR": str(models)}
        process = launch_process({**self._environment, **environment}, models, scratch, BOUNDED)
        try:
            answering(process)
            yield WatchedServer(process, models)
        finally:
            process.stop()

    def stop(self) -> None:
        if self._running is not None:
            self._running.stop()
            self._running = None

    def _start(self) -> WatchedServer:
        self._count += 1
        root, scratch = (self._directory / f"{kind}-{self._count}" for kind in ("models", "server"))
        root.mkdir(parents=True)
        scratch.mkdir()
        process = launch_process(self._environment, root, scratch, BOUNDED)
        try:
            answering(process)
            server = WatchedServer(process, root)
            server.start()
        except BaseException:
            process.stop()
            raise
        return server
