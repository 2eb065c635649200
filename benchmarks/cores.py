"""The container with several numbers of workers: throughput, latency and CPU, together with peers; memory.

Memory is read while no other container runs, since the proportional set size divides a page among all
processes that map it. The peers have libraries of their own.
"""

import contextlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks import load, stacks, steady, traffic
from benchmarks.pressure import TEXT, wake
from benchmarks.scenarios import SeveralWorkers, WorkerMemory, texts, tiny, workers_side
from benchmarks.stacks import MeasuredServer

DIFFERENT_TEXTS = 4


def measure(scenario: SeveralWorkers, root: Path) -> dict[str, Any]:
    """All sides have the same models loaded, and their windows alternate."""
    asked, models = scenario.traffic, scenario.traffic.models
    own = [stacks.with_workers(count) for count in scenario.workers]
    peers = [steady.PEERS[name] for name in scenario.peers]
    memory = {}
    for stack in own:
        with stacks.serving(stack, root) as server:
            memory[stack.name] = _filled(server, models, root)
    with contextlib.ExitStack() as opened:
        servers = []
        for stack in [*peers, *own]:
            server = opened.enter_context(stacks.serving(stack, root))
            servers.append(server)
            # Of the container's, the figures from above stay
            memory = {stack.name: _filled(server, models, root)} | memory
        difference = steady.compare(servers, models, texts(asked))
        windows = steady.windows(asked, servers, models)
        runs = steady.alternating(windows, asked.repetitions)
    return {"memory": memory, "largest_difference": difference, "runs": runs}


def _filled(server: MeasuredServer, models: Sequence[str], root: Path) -> dict[str, Any]:
    """Load all models and send one request to each."""
    loads = steady.load_models(server, models, root)
    for model in models:
        server.invoke(model, TEXT)
    return {
        "load_s": loads,
        "processes": len(server.processes()),
        "pss_nbytes": server.memory_nbytes(),
    }


def memory(scenario: WorkerMemory, root: Path) -> dict[str, Any]:
    """One server runs at a time; the order alternates."""
    runs = []
    for repetition in range(scenario.repetitions):
        for workers in scenario.workers if repetition % 2 == 0 else scenario.workers[::-1]:
            stages = _stages(scenario, workers, root)
            side = workers_side(workers)
            runs.append({"repetition": repetition, "side": side, "pss_nbytes": stages})
            print(f"  {json.dumps(runs[-1])}", flush=True)
    return {"weights_nbytes": _weights_nbytes(tiny(scenario.models), root), "runs": runs}


def _stages(scenario: WorkerMemory, workers: int, root: Path) -> dict[str, dict[str, int]]:
    """The memory of a new server after each stage."""
    models = tiny(scenario.models)
    with stacks.serving(stacks.with_workers(workers), root) as server:
        wake(server, root / models[0] / "model")
        server.unload("first")
        stages = {"started": server.memory_nbytes()}
        steady.load_models(server, models, root)
        stages["loaded"] = server.memory_nbytes()
        for model in models:
            server.invoke(model, TEXT)
        stages["asked"] = server.memory_nbytes()
        load.run(_plan(scenario, server, models))
        stages["served"] = server.memory_nbytes()
    return stages


def _plan(scenario: WorkerMemory, server: MeasuredServer, models: Sequence[str]) -> load.Plan:
    """All models equally often. Few texts, so that the number of touched pages does not depend on speed."""
    bodies = [json.dumps({"inputs": text}) for text in traffic.texts(13, DIFFERENT_TEXTS, seed=3)]
    kinds = [load.RequestKind(model, f"/models/{model}/invoke", bodies) for model in models]
    return load.Plan(server.port, kinds, scenario.seconds, scenario.clients)


def _weights_nbytes(models: Sequence[str], root: Path) -> int:
    return sum((root / model / "model/model.safetensors").stat().st_size for model in models)
