"""python -m benchmarks.invoke_path

Prints the product's files that one invoke passes, in order, and how many Python functions are called, in the
real front process and the real worker. The request is the tenth of its model, so that nothing is done for
the first time.
"""

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks import stacks
from benchmarks.stacks import OURS, ROOT, MeasuredServer

WARM_REQUESTS = 9
RECORDER = ROOT / "benchmarks/recorded"
LIMIT_S = 30.0
WORKERS = "2"  # of the device: batches are placed in one of them
TEXT = {"inputs": "warm as toast"}
Calls = dict[str, int]  # functions called, by file in the order of their first call


def main() -> None:
    with tempfile.TemporaryDirectory(prefix="invoke-path-") as name:
        root = Path(name)
        subprocess.run([sys.executable, "-m", "benchmarks.tiny_models", root, "1"], check=True)
        front, worker = recorded(root)
    _print("front", front)
    _print("worker", worker)
    files, calls = len(front | worker), sum([*front.values(), *worker.values()])
    print(f"{files} files, {calls} Python calls")


def recorded(root: Path) -> tuple[Calls, Calls]:
    """The calls of the front and of the worker for one request to the model `root/0000`."""
    path = os.pathsep.join([str(RECORDER), str(ROOT)])
    with stacks.serving(
        OURS, root, INVOKE_PATH_DIR=str(root), PYTHONPATH=path, MME_WORKERS=WORKERS
    ) as server:
        server.load("tiny", root / "0000" / "model")
        for _ in range(WARM_REQUESTS):
            server.invoke("tiny", TEXT)
        return _one(server, root)


def _one(server: MeasuredServer, root: Path) -> tuple[Calls, Calls]:
    pids = [server.leader, *_workers(server)]
    for pid in pids:
        os.kill(pid, signal.SIGUSR1)
    server.invoke("tiny", TEXT)
    for pid in pids:
        os.kill(pid, signal.SIGUSR2)
    front, *workers = (_written(root / f"{pid}.json") for pid in pids)
    return front, max(workers, key=len)  # the one that computed


def _workers(server: MeasuredServer) -> list[int]:
    return [int(each.pid) for each in server.processes() if each.name() == "mme-worker"]


def _written(file: Path) -> Calls:
    limit = time.monotonic() + LIMIT_S
    while not file.exists():
        if time.monotonic() > limit:
            raise TimeoutError(f"{file.name} was not written")
    return {
        str(Path(name).relative_to(ROOT)): n for name, n in json.loads(file.read_text()).items()
    }


def _print(process: str, calls: Calls) -> None:
    print(f"{process}: {len(calls)} files, {sum(calls.values())} calls")
    for file, count in calls.items():
        print(f"  {count:4}  {file}")


if __name__ == "__main__":
    main()
