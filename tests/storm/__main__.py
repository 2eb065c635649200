"""python -m tests.storm [--seconds 300] [--seed NUMBER]

Runs a server under hostile artifacts, hostile requests and random SIGKILL and SIGSTOP of all its
processes but the front. Exits with 1 if an answer is wrong or missing, or if afterwards processes,
descriptors, files or the ledger are not as before.
"""

import argparse
import contextlib
import json
import random
import signal
import sys
import tempfile
from pathlib import Path

import psutil
from transformers.utils.logging import disable_progress_bar

from tests import artifacts
from tests.chaos import scripts
from tests.contract.targets import answering, launch_process
from tests.contract.waiting import until
from tests.hostile.inputs import text_requests
from tests.hostile.inputs.artifacts import Hostile, rows
from tests.hostile.inputs.files import FILES
from tests.hostile.inputs.graphs import GRAPHS, Adding, script
from tests.hostile.inputs.other_requests import OTHERS
from tests.hostile.inputs.requests import MODELS, Attack
from tests.hostile.inputs.texts import TEXTS
from tests.hostile.inputs.trees import TABLES, booster
from tests.hostile.observers import rounded
from tests.hostile.watched_server import BOUNDED, QUESTION, WatchedServer
from tests.model_handler.formats.builders import onnx_graph
from tests.storm.remains import Remains, family, remains
from tests.storm.storm import FORK_SERVER, Limits, Report, Sound, Storm

LIMITS = Limits(request_s=8.0, load_s=15.0, unload_s=15.0)
ENVIRONMENT = {
    "MME_WORKERS": "2",
    "MME_DEVICE_MEMORY": "1GiB",
    "MME_REQUEST_TIMEOUT": str(LIMITS.request_s),
    "MME_LOAD_TIMEOUT": str(LIMITS.load_s),
    "MME_UNLOAD_TIMEOUT": str(LIMITS.unload_s - 5),
}
CLASSIFIERS = 4
LEAST = 10  # right answers of each sound model
LARGE_NBYTES = 2 << 20  # larger bodies would mostly measure this process
START_S, SETTLE_S = 90.0, 60.0


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--seconds", type=float, default=300.0)
    parser.add_argument("--seed", type=int, default=random.randrange(1_000_000))
    given = parser.parse_args()
    disable_progress_bar()
    print(f"storm of {given.seconds:.0f} s, --seed {given.seed}", flush=True)
    with tempfile.TemporaryDirectory(prefix="storm-") as scratch:
        return storm(Path(scratch), given.seconds, given.seed)


def storm(scratch: Path, seconds: float, seed: int) -> int:
    root, temporary = scratch / "models", scratch / "tmp"
    root.mkdir()
    temporary.mkdir()
    environment = {**ENVIRONMENT, "TMPDIR": str(temporary)}
    process = launch_process(environment, root, scratch, BOUNDED)
    try:
        answering(process)
        server = WatchedServer(process, root)
        artifacts.bert_classifier(
            root / "neighbour" / "model", seed=11
        )  # hostile links point there
        sound = write_sound(root)
        answers = load_all(server, sound)
        read_something_new(server, "before")
        unloaded(server)
        settled(server)
        before = remains(server, temporary)
        load_all(server, sound)
        running = Storm(server, LIMITS, answers, write_hostile(root), write_attacks(root), seed)
        running.run(seconds)
        check_served(running)
        differences = after(server, temporary, before)
        check_fork_server(server, running.report)
        return verdict(running.report, differences, process.logs())
    finally:
        process.stop()


# ---- what is loaded and sent ----


def write_sound(root: Path) -> list[tuple[str, Path, bytes]]:
    """Classifiers, a TorchScript model, trees, and a model with its own code, each with a request."""
    found = []
    for number in range(CLASSIFIERS):
        directory = artifacts.bert_classifier(root / f"sound-{number}" / "model", seed=number)
        found.append((f"sound-{number}", directory, QUESTION))
    for name, write in (("graph", script(Adding())), ("trees", booster), ("onnx", onnx_graph)):
        directory = root / f"sound-{name}" / "model"
        directory.mkdir(parents=True)
        write(directory)
        found.append((f"sound-{name}", directory, rows(1.0, 2.0, 3.0)))
    code = scripts.write(root / "sound-code" / "model", scripts.SUM)
    return [*found, ("sound-code", code, b"[1, 2]")]


def write_hostile(root: Path) -> list[tuple[Hostile, Path]]:
    return [(case, case.at(root)) for case in (*FILES, *TEXTS, *GRAPHS, *TABLES)]


def write_attacks(root: Path) -> list[tuple[Attack, bytes, Path]]:
    """Attacks with bodies of moderate size, and the sound models to which they are sent."""
    directories = {name: root / f"attacked-{name}" / "model" for name in MODELS}
    for name, write in MODELS.items():
        write(directories[name])
    made = (
        (attack, attack.make(), directories[attack.model])
        for attack in (*text_requests.TEXTS, *OTHERS)
    )
    return [each for each in made if len(each[1]) <= LARGE_NBYTES]


def load_all(server: WatchedServer, sound: list[tuple[str, Path, bytes]]) -> list[Sound]:
    """Load the models; they have their right answers when nothing else happens."""
    answers = []
    for name, directory, body in sound:
        load(server, name, directory, START_S)
        reply = server.invoke(name, body)
        assert reply.status == 200, reply
        answers.append(Sound(name, directory, body, rounded(json.loads(reply.body))))
    return answers


# ---- afterwards ----


def names(server: WatchedServer) -> list[str]:
    page = json.loads(server.send("GET", "/models?limit=100").body)
    return [each["modelName"] for each in page["models"]]


def load(server: WatchedServer, name: str, directory: Path, within_s: float) -> None:
    until(lambda: server.load(name, directory).status == 200, within_s=within_s)


def read_something_new(server: WatchedServer, name: str) -> None:
    """Load and unload a model with new content, so that all processes run that are started on demand: those
    that inspect and open artifacts, and the one that is forked for a model's own code."""
    directory = artifacts.bert_classifier(server.root / name / "model", labels=(name, "other"))
    for each in (directory, server.root / "sound-code" / "model"):
        load(server, name, each, SETTLE_S)
        server.unload(name)


def unloaded(server: WatchedServer) -> bool:
    """Unload all models. Whether none is left."""
    for name in names(server):
        server.unload(name)
    return not names(server)


def settled(server: WatchedServer) -> None:
    """Wait until all workers run and a sound model can be loaded and answers."""

    def sound() -> bool:
        running = [value for name, value in server.gauges().items() if "mme_worker_running" in name]
        return bool(running) and all(running) and server.send("GET", "/ping").status == 200

    until(sound, within_s=START_S)


def after(server: WatchedServer, temporary: Path, before: Remains) -> dict[str, str]:
    """What is not as before, after all models were unloaded and some time to settle."""
    settled(server)
    until(lambda: unloaded(server), within_s=SETTLE_S)
    read_something_new(server, "after")
    try:
        until(lambda: not remains(server, temporary).differences(before), within_s=SETTLE_S)
    except AssertionError:
        return remains(server, temporary).differences(before)
    return {}


def check_served(storm: Storm) -> None:
    """A storm in which a model hardly answered shows nothing."""
    for model in storm.sound:
        count = storm.report.outcomes[f"right {model.name}"]
        if count < LEAST:
            storm.report.fault(f"{model.name} answered only {count} times")


def check_fork_server(server: WatchedServer, report: Report) -> None:
    """A fork server that is stopped is replaced, and a model with its own code can then be loaded."""
    (first,) = fork_servers(server)
    first.send_signal(signal.SIGSTOP)
    try:
        until(lambda: fork_servers(server) not in ([], [first]), within_s=SETTLE_S)
        settled(server)
        load(server, "after", server.root / "sound-code" / "model", SETTLE_S)
    except AssertionError as error:
        report.fault(f"the stopped fork server is not replaced: {error}")
    with contextlib.suppress(psutil.NoSuchProcess):
        first.kill()


def fork_servers(server: WatchedServer) -> list[psutil.Process]:
    assert server.process.pid is not None
    found = family(psutil.Process(server.process.pid))
    return [process for process, name in found if name == FORK_SERVER]


def verdict(report: Report, differences: dict[str, str], logs: str) -> int:
    for outcome, count in sorted(report.outcomes.items()):
        print(f"{count:8} {outcome}")
    for fault in report.faults[:50]:
        print("fault:", fault)
    for name, difference in differences.items():
        print(f"not as before: {name}: {difference}")
    failed = bool(report.faults or differences)
    if failed:
        file = Path("build/storm.log")
        file.parent.mkdir(exist_ok=True)
        file.write_text(logs)
        print(f"{len(report.faults)} faults; the server's log is {file}")
    else:
        print("no wrong answer, none missing, everything as before")
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
