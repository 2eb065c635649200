"""Healthy traffic, hostile artifacts and requests, and signals to every process but the front, at random.

Each thread has a random generator of its own, seeded with the storm's seed and the thread's name.
"""

import contextlib
import http.client
import json
import random
import signal
import threading
import time
import traceback
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from tests.contract.client import check_error, path_of
from tests.hostile.inputs.artifacts import Hostile
from tests.hostile.inputs.requests import Attack
from tests.hostile.observers import JSON, exchange, rounded
from tests.hostile.watched_server import WatchedServer
from tests.storm.remains import family

GRACE_S = 5.0
CLEAN = frozenset(
    {404, 500, 503, 504, 507}
)  # of a sound model while processes are killed; 404: unloaded
HOSTILE = frozenset({200, 400, 404, 406, 409, 413, 415, 500, 503, 504, 507})
PINGS = frozenset({200, 503})
BETWEEN_KILLS_S = (0.5, 3.0)
FORK_SERVER = "mme-forkserver"
FORK_SERVERS = frozenset({FORK_SERVER, "mme-template"})
OF_FORK_SERVER = (
    0.08  # share of the signals: its death ends all workers, and the next one starts in seconds
)
RETRY_S = 0.2
STOPPED_S = (0.05, 0.5, 3.0, None)  # None: until the storm ends


@dataclass(frozen=True, slots=True)
class Limits:
    """Time limits of the server, in seconds."""

    request_s: float
    load_s: float
    unload_s: float


@dataclass(frozen=True, slots=True)
class Sound:
    """A healthy model with its right answer."""

    name: str
    directory: Path
    body: bytes
    answer: object


@dataclass
class Report:
    """Outcomes by kind and status, and what must not happen."""

    outcomes: Counter[str] = field(default_factory=Counter)
    faults: list[str] = field(default_factory=list)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def count(self, kind: str, outcome: object) -> None:
        with self._lock:
            self.outcomes[f"{kind} {outcome}"] += 1

    def fault(self, text: str) -> None:
        with self._lock:
            self.faults.append(text)


@dataclass
class Storm:
    server: WatchedServer
    limits: Limits
    sound: list[Sound]
    artifacts: list[tuple[Hostile, Path]]
    attacks: list[tuple[Attack, bytes, Path]]
    seed: int
    report: Report = field(default_factory=Report)
    _over: threading.Event = field(default_factory=threading.Event)
    _stopped: list[psutil.Process] = field(default_factory=list)

    def run(self, seconds: float) -> None:
        """Returns when every thread has its last answer; stopped processes have been continued."""
        roles: dict[str, Callable[[random.Random], None]] = {
            **{f"client-{number}": self._client for number in range(4)},
            "artifacts-0": self._hostile_artifacts,
            "artifacts-1": self._hostile_artifacts,
            "requests": self._hostile_requests,
            "signals": self._signals,
            "pings": self._pings,
        }
        threads = [
            threading.Thread(target=self._role, args=(name, role), name=name)
            for name, role in roles.items()
        ]
        for thread in threads:
            thread.start()
        self._over.wait(seconds)
        self._over.set()
        for thread in threads:
            thread.join()
        for process in self._stopped:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.send_signal(signal.SIGCONT)

    def _role(self, name: str, role: Callable[[random.Random], None]) -> None:
        chance = random.Random(f"{self.seed} {name}")
        while not self._over.is_set():
            try:
                role(chance)
            except (AssertionError, OSError, ValueError, psutil.Error) as error:
                where = traceback.extract_tb(error.__traceback__)[-1]
                self.report.fault(f"{name}: {error!r} in {where.name}, {where.line}")

    # ---- what the threads do, again and again ----

    def _client(self, chance: random.Random) -> None:
        model = chance.choice(self.sound)
        status, body = self._ask("client", model.name, model.body, CLEAN | {200})
        if status == 200:
            self.report.count("right", model.name)
        if status == 200 and rounded(json.loads(body)) != model.answer:
            self.report.fault(f"wrong answer of {model.name}: {body[:200]!r}")
        if status == 404:
            self._load("client-load", model.name, model.directory)
        self._over.wait(0.005 if status == 200 else RETRY_S)

    def _hostile_artifacts(self, chance: random.Random) -> None:
        case, directory = chance.choice(self.artifacts)
        name = f"{case.name}-{threading.get_ident()}"
        if self._load("artifact-load", name, directory) == 200:
            if chance.random() < 0.8:
                self._ask("artifact", name, case.asked, HOSTILE)
            self._unload(name)
        else:
            self._over.wait(RETRY_S / 4)

    def _hostile_requests(self, chance: random.Random) -> None:
        attack, body, directory = chance.choice(self.attacks)
        headers = {"Content-Type": attack.content_type}
        status, _ = self._ask("attack", attack.model, body, HOSTILE, headers)
        if status == 404:
            self._load("attack-load", attack.model, directory)
            self._over.wait(RETRY_S / 4)

    def _signals(self, chance: random.Random) -> None:
        self._over.wait(chance.uniform(*BETWEEN_KILLS_S))
        assert self.server.process.pid is not None
        processes = family(psutil.Process(self.server.process.pid))
        if not processes or self._over.is_set():
            return
        kind = _kind(chance, {name for _, name in processes})
        if kind is None:
            return
        process = chance.choice([each for each, name in processes if name == kind])
        with contextlib.suppress(psutil.NoSuchProcess):
            if chance.random() < 0.5:
                process.kill()
                self.report.count("SIGKILL", kind)
            else:
                self._stop(process, chance.choice(STOPPED_S))
                self.report.count("SIGSTOP", kind)

    def _stop(self, process: psutil.Process, seconds: float | None) -> None:
        process.send_signal(signal.SIGSTOP)
        if seconds is None:
            self._stopped.append(process)
            return
        self._over.wait(seconds)
        process.send_signal(signal.SIGCONT)

    def _pings(self, chance: random.Random) -> None:
        self._send("ping", "GET", "/ping", b"", PINGS, 0.0)
        self._over.wait(0.05)

    # ---- requests, each with its time limit and its allowed answers ----

    def _ask(
        self,
        kind: str,
        name: str,
        body: bytes,
        allowed: frozenset[int],
        headers: dict[str, str] = JSON,
    ) -> tuple[int, bytes]:
        path = f"{path_of(name)}/invoke"
        return self._send(kind, "POST", path, body, allowed, self.limits.request_s, headers)

    def _load(self, kind: str, name: str, directory: Path) -> int:
        body = json.dumps({"model_name": name, "url": str(directory)}).encode()
        return self._send(kind, "POST", "/models", body, HOSTILE, self.limits.load_s)[0]

    def _unload(self, name: str) -> None:
        allowed = frozenset({200, 404})
        self._send("unload", "DELETE", path_of(name), b"", allowed, self.limits.unload_s)

    def _send(
        self,
        kind: str,
        method: str,
        path: str,
        body: bytes,
        allowed: frozenset[int],
        limit_s: float,
        headers: dict[str, str] = JSON,
    ) -> tuple[int, bytes]:
        patience_s = limit_s + GRACE_S
        connection = http.client.HTTPConnection(*self.server.address, timeout=patience_s)
        began = time.monotonic()
        with contextlib.closing(connection):
            status, answer = exchange(connection, method, path, body, headers)
        seconds = time.monotonic() - began
        self.report.count(kind, status or "unanswered")
        if status == 0 or status not in allowed or seconds > patience_s:
            self.report.fault(f"{method} {path}: {status} after {seconds:.1f} s: {answer[:200]!r}")
        elif status >= 400:
            self._check_error(f"{method} {path}", status, answer)
        return status, answer

    def _check_error(self, request: str, status: int, answer: bytes) -> None:
        try:
            check_error(status, "application/json", answer)
        except (AssertionError, ValueError) as error:
            self.report.fault(f"{request}: {status}, {error!r}: {answer[:600]!r}")


def _kind(chance: random.Random, kinds: set[str]) -> str | None:
    """The name of the process that gets the signal. None while there is but a fork server that starts: it
    would never come to an end."""
    others, servers = sorted(kinds - FORK_SERVERS), sorted(kinds & FORK_SERVERS)
    if not others:
        return None
    from_others = not servers or chance.random() > OF_FORK_SERVER
    return chance.choice(others if from_others else servers)
