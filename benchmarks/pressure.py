"""Scenarios under memory pressure: more models than fit, loads during traffic, thousands of loads."""

import asyncio
import contextlib
import itertools
import json
import os
import random
import subprocess
import time
from pathlib import Path
from typing import Any

import httpx
import msgspec

from benchmarks import load, on_demand, stacks, traffic
from benchmarks.scenarios import Churn, Cycles, Neighbours, Storm, tiny
from benchmarks.stacks import HUGGING_FACE, OURS, MeasuredServer
from benchmarks.steady import comparable

LOADING_HANDS = 8
SLACK_NBYTES = 1 << 20  # of the budget: buffers beside the weights
TEXT = {"inputs": "word1 word2 word3"}
MEMORY_EVERY = 100  # cycles
ALONE_S, BESIDE_S = 5.0, 14.0
PACE_S = 0.5  # from the end of one unload to the next load


def measure(scenario: Churn | Storm | Neighbours | Cycles, root: Path) -> dict[str, Any]:
    match scenario:
        case Churn():
            return _churn(scenario, root)
        case Storm():
            return {
                "runs": [_storm(scenario, root, number) for number in range(scenario.repetitions)]
            }
        case Neighbours():
            return _neighbours(scenario, root)
        case Cycles():
            return _cycles(scenario, root)


def _weights_nbytes(root: Path, model: str) -> int:
    return (root / model / "model/model.safetensors").stat().st_size


# ---- churn ----


def _churn(scenario: Churn, root: Path) -> dict[str, Any]:
    models = tiny(scenario.models)
    total = sum(_weights_nbytes(root, model) for model in models)
    budget = int(total * scenario.share) + SLACK_NBYTES
    runs = []
    with stacks.serving(OURS, root, MME_DEVICE_MEMORY=str(budget)) as server:
        wake(server, root / models[0] / "model")
        server.unload("first")
        for repetition in range(scenario.repetitions):
            trace = _trace(scenario, repetition)
            outcome = asyncio.run(on_demand.replay(server.port, trace, scenario.clients, root))
            run = {"repetition": repetition, **msgspec.to_builtins(outcome)}
            runs.append(run | {"load_average": os.getloadavg()[0]})
            print(f"  {json.dumps(run)}", flush=True)
    return {"budget_nbytes": budget, "weights_nbytes": total, "runs": runs}


def wake(server: MeasuredServer, model: Path) -> None:
    """Wait for the worker by loading a model named "first"."""
    server.load("first", model)
    server.invoke("first", TEXT)


def _trace(scenario: Churn, seed: int) -> on_demand.Trace:
    shares = traffic.zipf(scenario.models, scenario.skew)
    bodies = [json.dumps({"inputs": text}) for text in traffic.ragged(128, seed)]
    return on_demand.Trace(
        tiny(scenario.models), traffic.draws(shares, seed), bodies, scenario.seconds
    )


# ---- storm ----


def _storm(scenario: Storm, root: Path, repetition: int) -> dict[str, Any]:
    """A new server with a running worker: one additional model was loaded and invoked."""
    models = tiny(scenario.models)
    with stacks.serving(OURS, root) as server:
        wake(server, root / models[0] / "model")
        before = server.anonymous_nbytes()
        began = time.perf_counter()
        asyncio.run(on_demand.load_all(server.port, models, LOADING_HANDS, root))
        loaded_s = time.perf_counter() - began
        held = server.anonymous_nbytes() - before
        for model in models:
            server.invoke(model, TEXT)
        run = {
            "repetition": repetition,
            "models": scenario.models,
            "all_loaded_s": loaded_s,
            "all_answered_s": time.perf_counter() - began,
            "anonymous_nbytes_per_model": held / len(models),
        }
    print(f"  {json.dumps(run)}", flush=True)
    return run


# ---- neighbours ----


def _neighbours(scenario: Neighbours, root: Path) -> dict[str, Any]:
    runs = []
    with stacks.serving(OURS, root) as ours, stacks.serving(HUGGING_FACE, root) as theirs:
        for server in (ours, theirs):
            server.load(scenario.asked, root / scenario.asked / "model")
            server.invoke(scenario.asked, TEXT)
        for repetition in range(scenario.repetitions):
            for server in (ours, theirs) if repetition % 2 == 0 else (theirs, ours):
                run = {"repetition": repetition, "side": server.name}
                run |= _beside(scenario, server, root)
                runs.append(run | {"load_average": os.getloadavg()[0]})
                print(f"  {json.dumps(run)}", flush=True)
    return {"runs": runs}


def _beside(scenario: Neighbours, server: MeasuredServer, root: Path) -> dict[str, Any]:
    """Latency of one client alone, and while other models are loaded and unloaded one after the other."""
    bodies = [json.dumps({"inputs": text}) for text in traffic.texts(30, 64, seed=5)]
    kind = load.RequestKind("asked", f"/models/{scenario.asked}/invoke", bodies)
    alone = load.run(load.Plan(server.port, [kind], ALONE_S, 1))
    process = load.start(load.Plan(server.port, [kind], BESIDE_S, 1))
    loads: dict[str, list[float]] = {model: [] for model in scenario.coming}
    for model in itertools.cycle(scenario.coming):
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(PACE_S)
        if process.poll() is not None:
            break
        loads[model].append(server.load(model, root / model / "model"))
        server.unload(model)
    beside = load.finish(process)
    return {
        "alone": msgspec.to_builtins(alone.all),
        "beside": msgspec.to_builtins(beside.all),
        "loads": {model: len(seconds) for model, seconds in loads.items()},
        "load_s": {model: min(seconds) for model, seconds in loads.items() if seconds},
    }


# ---- cycles ----


def _cycles(scenario: Cycles, root: Path) -> dict[str, Any]:
    models = tiny(scenario.models)
    budget = 3 * _weights_nbytes(root, models[0]) + SLACK_NBYTES
    with stacks.serving(OURS, root, MME_DEVICE_MEMORY=str(budget)) as server:
        _spin_once(server, models[0], root)  # the worker is there from now on
        before = {process.pid for process in server.processes()}
        memory = [
            _spin(server, models, root, first) for first in range(0, scenario.cycles, MEMORY_EVERY)
        ]
        refusals = _refusals(server, models, root, scenario.refusals)
        same = {process.pid for process in server.processes()} == before
    return {"memory": memory, "refusal_ms": refusals, "same_processes": same}


def _spin(
    server: MeasuredServer, models: tuple[str, ...], root: Path, first: int
) -> dict[str, Any]:
    """Run some cycles, each with a check of the response; then read the server's memory."""
    for number in range(first, first + MEMORY_EVERY):
        _spin_once(server, models[number % len(models)], root)
    memory = {"cycles": first + MEMORY_EVERY, "anonymous_nbytes": server.anonymous_nbytes()}
    print(f"  {json.dumps(memory)}", flush=True)
    return memory


def _spin_once(server: MeasuredServer, model: str, root: Path) -> None:
    server.load(model, root / model / "model")
    answer = comparable(server.invoke(model, TEXT))
    expected = _ANSWERS.setdefault(model, answer)
    if answer != expected:
        raise SystemExit(f"{model} answered {answer}, before {expected}")
    server.unload(model)


_ANSWERS: dict[str, Any] = {}


def _refusals(
    server: MeasuredServer, models: tuple[str, ...], root: Path, count: int
) -> list[float]:
    """Milliseconds of each 507 of a full device."""
    for model in models[:3]:
        server.load(model, root / model / "model")
    draw, taken = random.Random(0), []
    for _ in range(count):
        model = draw.choice(models[3:])
        began = time.perf_counter()
        try:
            server.load(model, root / model / "model")
        except httpx.HTTPStatusError as error:
            if error.response.status_code != httpx.codes.INSUFFICIENT_STORAGE:
                raise
            taken.append((time.perf_counter() - began) * 1e3)
        else:
            raise SystemExit("a load was taken that does not fit")
    return taken
