"""python -m benchmarks.isolation --peer .venv-mms/bin/python [--models 50] [--output DIR]

Isolated handlers side by side: the same code/inference.py artifacts in our container and in
multi-model-server with sagemaker-inference, one process (there: two) per model. Time per load over
HTTP, and memory per model as the growth of the proportional set size (PSS) of all processes. Each
server runs alone; the order alternates over the repetitions. Writes raw JSON with the environment.
"""

import argparse
import contextlib
import os
import random
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import psutil

from benchmarks import environment

PATIENCE_S = 120.0
CODE = """
import json
import numpy

def model_fn(model_dir):
    with open(f"{model_dir}/weights.json") as file:
        return numpy.array(json.load(file))

def input_fn(body, content_type):
    return numpy.array(json.loads(body))

def predict_fn(data, model):
    return float(data @ model)

def output_fn(prediction, accept):
    return json.dumps(prediction)
"""
SERVICE = """
import sys
from sagemaker_inference.default_handler_service import DefaultHandlerService

service = DefaultHandlerService()

def handle(data, context):
    if not getattr(service, "ready", False):
        sys.path.insert(0, context.system_properties["model_dir"] + "/code")
        service.initialize(context)
        service.ready = True
    return None if data is None else service.handle(data, context)
"""
START = """
import sys
from sagemaker_inference import model_server
model_server.start_model_server(handler_service=sys.argv[1] + ":handle")
"""


def main() -> None:
    arguments = _arguments()
    with tempfile.TemporaryDirectory(prefix="mme-isolation-") as scratch:
        directories = _artifacts(Path(scratch), arguments.models)
        runs: dict[str, list[dict[str, float]]] = {"ours": [], "peer": []}
        for repetition in range(arguments.repetitions):
            for side in ("ours", "peer") if repetition % 2 == 0 else ("peer", "ours"):
                print(f"{side}: {len(directories)} models", flush=True)
                server = (
                    _ours(Path(scratch)) if side == "ours" else _peer(arguments.peer, Path(scratch))
                )
                with server as (base, leader):
                    runs[side].append(_measured(base, leader, directories))
    result = {"models": arguments.models, **runs, **_ratios(runs)}
    _report(result)
    if arguments.output is not None:
        environment.write(arguments.output, "isolation", result)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--peer", type=Path, required=True, help="Python with multi-model-server")
    parser.add_argument("--models", type=int, default=50)
    parser.add_argument("--repetitions", type=int, default=2)
    parser.add_argument("--output", type=Path, default=None, help="directory for the raw JSON")
    return parser.parse_args()


def _artifacts(root: Path, count: int) -> list[Path]:
    directories = [root / f"{number:03}" / "model" for number in range(count)]
    for number, directory in enumerate(directories):
        (directory / "code").mkdir(parents=True)
        (directory / "code/inference.py").write_text(CODE)
        (directory / "weights.json").write_text(f"[1, {number}]")
    return directories


# ---- the two servers ----


@contextlib.contextmanager
def _ours(root: Path) -> Iterator[tuple[str, int]]:
    settings = {"MME_MODEL_ROOT": str(root), "MME_DEVICE": "cpu"}
    with _running([sys.executable, "-m", "container", "serve"], settings) as server:
        yield server


@contextlib.contextmanager
def _peer(python: Path, root: Path) -> Iterator[tuple[str, int]]:
    """Its processes find each other by fixed names below TMPDIR, so each run has its own."""
    service = root / "service.py"
    service.write_text(SERVICE)
    with tempfile.TemporaryDirectory() as temporary:
        settings = {"TMPDIR": temporary, "PATH": f"{python.parent}:{os.environ['PATH']}"}
        with _running([str(python), "-c", START, str(service)], settings) as server:
            yield server


@contextlib.contextmanager
def _running(command: list[str], settings: dict[str, str]) -> Iterator[tuple[str, int]]:
    port = _free_port()
    contract = {"SAGEMAKER_MULTI_MODEL": "true", "SAGEMAKER_BIND_TO_PORT": str(port)}
    contract |= {"SAGEMAKER_SAFE_PORT_RANGE": "21000-25000"}
    process = subprocess.Popen(
        command,
        env=os.environ | contract | settings,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    base = f"http://127.0.0.1:{port}"
    try:
        transport = httpx.HTTPTransport(retries=8)  # with back-off: until the port is open
        with httpx.Client(transport=transport, timeout=PATIENCE_S) as client:
            client.get(f"{base}/ping").raise_for_status()
        yield base, process.pid
    finally:
        for each in _session(process.pid):
            each.terminate()
        _, left = psutil.wait_procs(_session(process.pid), timeout=10)
        for each in left:
            each.kill()
        process.wait()


def _session(leader: int) -> list[psutil.Process]:
    """All that the server started: its children, and what left them but not their session."""
    found = (
        set(psutil.Process(leader).children(recursive=True)) if psutil.pid_exists(leader) else set()
    )
    for process in psutil.process_iter():
        with contextlib.suppress(ProcessLookupError, psutil.Error):
            if os.getsid(process.pid) == leader:
                found.add(process)
    return sorted(found, key=lambda process: process.pid)


# ---- what is measured ----


def _measured(base: str, server: int, directories: list[Path]) -> dict[str, float]:
    """The first model warms the server up; the others count."""
    with httpx.Client(base_url=base, timeout=PATIENCE_S) as client:
        _load(client, directories[0])
        before = _pss_nbytes(server)
        seconds = [_load(client, directory) for directory in directories[1:]]
        held = _pss_nbytes(server) - before
        for number, directory in enumerate(directories):
            answer = client.post(f"/models/{directory.parent.name}/invoke", content="[2, 1]")
            assert answer.json() == 2 + number, answer.text
    return {
        "load_s": statistics.median(seconds),
        "all_loads_s": sum(seconds),
        "nbytes_per_model": held / len(seconds),
        "processes": len(_session(server)),
    }


def _load(client: httpx.Client, directory: Path) -> float:
    began = time.perf_counter()
    document = {"model_name": directory.parent.name, "url": str(directory)}
    client.post("/models", json=document).raise_for_status()
    return time.perf_counter() - began


def _pss_nbytes(server: int) -> int:
    """Memory shared by n processes counts as an nth for each."""
    return sum(_pss(process.pid) for process in _session(server))


def _pss(pid: int) -> int:
    """0 for one that has just ended."""
    with contextlib.suppress(OSError):
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1]) * 1024
    return 0


def _free_port() -> int:
    """Below 32767: multi-model-server refuses the others."""
    for port in random.sample(range(26_000, 32_000), 100):
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port
    raise SystemExit("no port is free")


def _ratios(runs: dict[str, list[dict[str, float]]]) -> dict[str, Any]:
    def median(side: str, figure: str) -> float:
        return statistics.median(run[figure] for run in runs[side])

    return {
        "times_faster_load": median("peer", "load_s") / median("ours", "load_s"),
        "times_smaller": median("peer", "nbytes_per_model") / median("ours", "nbytes_per_model"),
    }


def _report(result: dict[str, Any]) -> None:
    print(f"{'':<24}{'ours':>12}{'peer':>12}")
    for figure, factor, unit in (
        ("load_s", 1e3, "ms"), ("all_loads_s", 1, "s"), ("nbytes_per_model", 1e-6, "MB"),
        ("processes", 1, ""),
    ):  # fmt: skip
        cells = [
            statistics.median(run[figure] for run in result[side]) * factor
            for side in ("ours", "peer")
        ]
        print(f"{figure + ' ' + unit:<24}" + "".join(f"{cell:>12.1f}" for cell in cells))
    print(f"load: {result['times_faster_load']:.1f} times faster")
    print(f"memory per model: {result['times_smaller']:.1f} times smaller")


if __name__ == "__main__":
    main()
