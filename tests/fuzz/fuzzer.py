"""What must hold for every input, and the rounds in which inputs are drawn.

- Loads and requests are answered in time, with an allowed status and the documented error body.
- /ping and a neighbour are asked all the while; the neighbour's answers are right.
- The neighbour's worker stays, unless the log says which model ended it.
"""

import gzip
import json
import random
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st

from container.archive import ArchiveRefused, unpack
from tests.archives import packed
from tests.contract.client import path_of
from tests.contract.waiting import until
from tests.fuzz.mutations import Draw, raw
from tests.fuzz.subjects import BY_NAME, SUBJECTS, Request, mutate_artifact, mutate_request
from tests.hostile.watched_server import Reply, WatchedServer, WatchedServers

LOAD_S, REQUEST_S, GRACE_S = 10, 4, 4.0
ENVIRONMENT = {
    "MME_WORKERS": "1",
    "MME_DEVICE_MEMORY": "1GiB",
    "MME_LOAD_TIMEOUT": str(LOAD_S),
    "MME_REQUEST_TIMEOUT": str(REQUEST_S),
}
LOADED = frozenset({200, 500, 507})
ANSWERED = frozenset({200, 400, 406, 413, 415, 500, 503, 504, 507})
PER_ROUND = 10
RIGHT_AGAIN_S = 20.0
NAME, ARCHIVE = "fuzzed", "model.tar.gz"
BLAME = frozenset({"blamed", "moved to a process of its own"})


class Violation(AssertionError):
    pass


@dataclass
class Fuzzer:
    """`directory`: for artifacts and logs. `failures`: where inputs that violate a property are saved."""

    directory: Path
    failures: Path
    until: float
    count: int = 0
    statuses: dict[str, int] = field(default_factory=dict)
    found: list[Path] = field(default_factory=list)
    valid: dict[str, Path] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.servers = WatchedServers(self.directory / "servers", **ENVIRONMENT)
        templates = self.directory / "valid"
        self.valid = {subject.name: subject.at(templates) for subject in SUBJECTS}

    def run(self, first_seed: int) -> None:
        """Rounds with the seeds `first_seed`, `first_seed` + 1, … until the time is over."""
        properties = (self.artifact, self.request, self.archive)
        chance = random.Random(first_seed)
        number = first_seed
        while time.monotonic() < self.until:
            self._round(number, chance.choice(properties))
            number += 1

    def _round(self, number: int, check: Callable[[Draw, Path], None]) -> None:
        """A few inputs, always the same of one seed. Those that violate a property are saved."""
        title = f"{check.__name__}-{number}"

        @seed(number)
        @settings(
            max_examples=PER_ROUND,
            phases=[Phase.generate],  # shrinking would load hundreds of artifacts more
            database=None,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        )
        @given(st.data())
        def inputs(data: Any) -> None:
            self.count += 1
            place = self._fresh(f"{title}-{self.count}")
            try:
                check(data.draw, place)
            except (
                AssertionError
            ) as violation:  # not for hypothesis, which would run the input again
                self._save(place, violation)
            shutil.rmtree(place)

        inputs()

    def _fresh(self, title: str) -> Path:
        """An empty directory for one input. The server must reach it, so it is below the server's models."""
        place = self.servers.get().root / title
        place.mkdir()
        return place

    def _save(self, place: Path, violation: AssertionError) -> None:
        kept = self.failures / place.name
        shutil.rmtree(kept, ignore_errors=True)
        shutil.copytree(place, kept)
        shutil.rmtree(kept / "unpacked", ignore_errors=True)
        (kept / "violation.txt").write_text(str(violation)[:5000])
        self.found.append(kept)
        print(f"violation, saved in {kept}: {str(violation)[:400]}", flush=True)
        self.servers.get().harmed = True

    # ---- the properties ----

    def artifact(self, draw: Draw, place: Path) -> None:
        """A mutated artifact, loaded, asked with a valid request, unloaded."""
        subject = BY_NAME[draw(st.sampled_from(sorted(BY_NAME)))]
        name = mutate_artifact(draw, self.valid[subject.name], place / "model")
        content_type = min(subject.bodies)
        request = Request(subject.bodies[content_type], content_type, "*/*")
        note(place, request, subject=subject.name, file=name)
        self.check(place)

    def request(self, draw: Draw, place: Path) -> None:
        """A mutated request to a sound model."""
        subject = BY_NAME[draw(st.sampled_from(sorted(BY_NAME)))]
        shutil.copytree(self.valid[subject.name], place / "model")
        note(place, mutate_request(draw, subject), subject=subject.name)
        self.check(place)

    def archive(self, draw: Draw, place: Path) -> None:
        """A mutated archive is refused or unpacked inside its directory."""
        tar = gzip.decompress(packed(self.valid["trees"]))
        (place / ARCHIVE).write_bytes(gzip.compress(raw(draw, tar), 1))
        self.check(place)

    def _check_archive(self, place: Path) -> None:
        before = set(place.parent.iterdir())
        try:
            unpack(place / ARCHIVE, place / "unpacked")
        except ArchiveRefused as refusal:
            self._count("archive", type(refusal).__name__)
        except Exception as error:
            raise Violation(f"the archive raises {error!r}") from error
        if set(place.parent.iterdir()) != before:
            raise Violation("files were written outside the directory")

    def check(self, place: Path) -> None:
        """Check every property of one input: of an archive, or of a model and a request."""
        if (place / ARCHIVE).exists():
            self._check_archive(place)
        else:
            self._check_model(place)

    def _check_model(self, place: Path) -> None:
        server = self.servers.get()
        request, began = noted(place), time.monotonic()
        worker = server.main_worker()
        log_nbytes = len(server.process.logs())
        loaded = server.load(NAME, place / "model")
        self._allowed("load", loaded, LOADED, LOAD_S)
        if loaded.status == 200:
            self._allowed("request", ask(server, request), ANSWERED, REQUEST_S)
            unloaded = server.unload(NAME)
            self._allowed("unload", unloaded, frozenset({200, 404}), LOAD_S)
        blamed = NAME in blamed_models(server.process.logs()[log_nbytes:])
        neighbour_right(server, began, excused=blamed)
        if server.main_worker() == worker:
            return
        if not blamed:
            raise Violation("the neighbour's worker ended, and the log does not name the model")
        server.harmed = (
            True  # a new one, in which it is known again which worker is the neighbour's
        )

    def _allowed(self, kind: str, reply: Reply, allowed: frozenset[int], limit_s: float) -> None:
        self._count(kind, str(reply.status))
        if reply.status not in allowed:
            raise Violation(f"{kind}: {reply}")
        if reply.seconds > limit_s + GRACE_S:
            raise Violation(f"{kind} took {reply.seconds:.1f} s")
        if reply.message == "internal error":
            raise Violation(f"{kind}: an error without a reason")

    def _count(self, kind: str, status: str) -> None:
        key = f"{kind} {status}"
        self.statuses[key] = self.statuses.get(key, 0) + 1


# ---- one input on disk ----


def note(place: Path, request: Request, **facts: str) -> None:
    (place / "body").write_bytes(request.body)
    headers = {"Content-Type": request.content_type, "Accept": request.accept}
    (place / "input.json").write_text(json.dumps({"headers": headers, **facts}))


def noted(place: Path) -> Request:
    headers = json.loads((place / "input.json").read_text())["headers"]
    return Request((place / "body").read_bytes(), headers["Content-Type"], headers["Accept"])


def ask(server: WatchedServer, request: Request) -> Reply:
    headers = {"Content-Type": request.content_type, "Accept": request.accept}
    sent = {name: text for name, text in headers.items() if text}
    return server.send("POST", f"{path_of(NAME)}/invoke", request.body, sent)


# ---- what the neighbour sees ----


def blamed_models(log: str) -> set[str]:
    """Models that the log names as the reason why a worker was replaced."""
    records = [json.loads(line) for line in log.splitlines() if line.startswith("{")]
    return {str(each.get("model")) for each in records if each.get("event") in BLAME}


def neighbour_right(server: WatchedServer, began: float, *, excused: bool) -> None:
    """`excused`: its worker had to be replaced, so that errors are allowed for a while."""
    now = time.monotonic()
    try:
        until(
            lambda: any(each.right for each in server.neighbour.since(now)), within_s=RIGHT_AGAIN_S
        )
    except AssertionError:
        raise Violation(f"the neighbour does not answer: {server.neighbour.seen[-1:]}") from None
    seen = server.neighbour.since(began)
    wrong = [each for each in seen if not each.right]
    if any(each.status in (0, 200) for each in wrong):
        raise Violation(f"the neighbour's answers are wrong: {wrong[:3]}")
    if wrong and not excused:
        raise Violation(f"{len(wrong)} of the neighbour's answers are errors: {wrong[0]}")
    pings = [each for each in server.pings.since(began) if not each.right]
    if pings:
        raise Violation(f"/ping: {pings[0]}")
