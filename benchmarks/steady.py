"""Throughput and latency of loaded models: the container, a peer and plain PyTorch in alternating windows."""

import contextlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import msgspec

from benchmarks import load, stacks, traffic
from benchmarks.figures import others_cores
from benchmarks.scenarios import Hot, Mix, document, texts
from benchmarks.stacks import HUGGING_FACE, OURS, PIPELINES, TRITON, MeasuredServer

PEERS = {stack.name: stack for stack in (HUGGING_FACE, PIPELINES, TRITON)}
TOLERANCE = 2e-4  # of scores: other versions of the libraries, other order of additions
DISTURBED = 0.25  # cores that other programs used during a window
TRIES = 3
CHECKED = 4  # texts per model whose answers are compared


def measure(scenario: Hot | Mix, root: Path) -> dict[str, Any]:
    models = scenario.models
    peers = [] if scenario.peer is None else [PEERS[scenario.peer]]
    with contextlib.ExitStack() as stack:
        servers = [stack.enter_context(stacks.serving(each, root)) for each in [OURS, *peers]]
        loads = {server.name: load_models(server, models, root) for server in servers}
        result: dict[str, Any] = {
            "load_s": loads,
            "pss_nbytes": {server.name: server.pss_nbytes() for server in servers},
            "processes": {server.name: len(server.processes()) for server in servers},
            "largest_difference": compare(servers, models, texts(scenario)),
        }
        runs = windows(scenario, servers, models)
        bare = list(_bare(scenario, root, stack)) if isinstance(scenario, Hot) else []
        result["runs"] = alternating([*runs, *bare], scenario.repetitions)
    return result


Window = Any  # called without arguments, returns one run


def alternating(windows: Sequence[Window], repetitions: int) -> list[dict[str, Any]]:
    """Run every window once in each repetition; every second repetition in reverse order."""
    runs = []
    for repetition in range(repetitions):
        runs += _round(repetition, windows if repetition % 2 == 0 else windows[::-1])
    return runs


def _round(repetition: int, ordered: Sequence[Window]) -> list[dict[str, Any]]:
    runs = []
    for window in ordered:
        run = _quietest(window)
        runs.append({"repetition": repetition, **run, "load_average": os.getloadavg()[0]})
        print(f"  {json.dumps(_brief(run))}", flush=True)
    return runs


def _quietest(window: Window) -> dict[str, Any]:
    """Repeat a window that other programs disturbed. Returns the run that they disturbed least."""
    tries = [window()]
    while others_cores(tries[-1]) > DISTURBED and len(tries) < TRIES:
        tries.append(window())
    quietest: dict[str, Any] = min(tries, key=others_cores)
    return quietest | {"tries": len(tries)}


def _brief(run: dict[str, Any]) -> dict[str, Any]:
    short: dict[str, Any] = {
        key: run[key] for key in ("side", "clients", "batch", "threads") if key in run
    }
    figures = ("per_s", "cores_busy", "others_cpu_s")
    short |= {key: round(run[key], 2) for key in figures if key in run}
    return short | ({"p99": round(run["all"]["p99"], 1)} if "all" in run else {})


# ---- servers ----


def load_models(server: MeasuredServer, models: Sequence[str], root: Path) -> list[float]:
    """Seconds per model."""
    return [server.load(model, root / model / "model") for model in models]


def compare(
    servers: Sequence[MeasuredServer], models: Sequence[str], bodies: Sequence[str]
) -> float:
    """The largest difference between the scores of two servers. Exits if responses differ otherwise."""
    largest = 0.0
    for model in models:
        for text in bodies[:CHECKED]:
            answers = [
                comparable(server.invoke(model, document(model, text))) for server in servers
            ]
            for other in answers[1:]:
                largest = max(largest, difference(answers[0], other))
    if largest > TOLERANCE:
        raise SystemExit(f"scores differ by {largest}")
    return largest


def comparable(answer: Any) -> list[tuple[tuple[Any, ...], tuple[float, ...]]]:
    """The parts of a response that must be equal, and those that must be close. The toolkits use different
    keys for generated text."""
    rows = answer if isinstance(answer, list) else [answer]
    exact = ("label", "entity", "index", "word", "start", "end")
    texts_of = ("generated_text", "translation_text", "summary_text")
    return [
        (
            tuple(row[name] for name in (*exact, *texts_of) if name in row),
            (float(row["score"]),) if "score" in row else (),
        )
        for row in rows
    ]


def difference(mine: list[Any], theirs: list[Any]) -> float:
    """The largest difference of the scores. Raises SystemExit if anything else differs."""
    if [row[0] for row in mine] != [row[0] for row in theirs]:
        raise SystemExit(f"answers differ: {mine} {theirs}")
    pairs = zip(mine, theirs, strict=True)
    return max((abs(a - b) for x, y in pairs for a, b in zip(x[1], y[1], strict=True)), default=0.0)


def windows(
    scenario: Hot | Mix, servers: Sequence[MeasuredServer], models: Sequence[str]
) -> list[Window]:
    kinds = {server.name: _kinds(scenario, server, models) for server in servers}
    return [
        _window(server, load.Plan(server.port, kinds[server.name], scenario.seconds, clients))
        for clients in scenario.clients
        for server in servers
    ]


def _kinds(
    scenario: Hot | Mix, server: MeasuredServer, models: Sequence[str]
) -> list[load.RequestKind]:
    def body(model: str, text: str) -> str:
        return json.dumps(server.dialect.request(document(model, text)))

    bodies = {model: [body(model, text) for text in texts(scenario)] for model in models}
    shares = [1.0] if isinstance(scenario, Hot) else traffic.zipf(len(models), scenario.skew)
    return [
        load.RequestKind(model, f"/models/{model}/invoke", bodies[model], share)
        for model, share in zip(models, shares, strict=True)
    ]


def _window(server: MeasuredServer, plan: load.Plan) -> Window:
    def run() -> dict[str, Any]:
        before = _cpu_s(server)
        outcome = load.run(plan)
        front, whole, machine = (
            now - then for now, then in zip(_cpu_s(server), before, strict=True)
        )
        served = outcome.per_s * plan.seconds
        return {
            "side": server.name,
            "clients": plan.clients,
            "cpu_s_per_request": whole / served,
            "leader_cpu_s_per_request": front / served,
            "cores_busy": whole / outcome.lasted_s,
            "others_cpu_s": machine - whole - outcome.generator_cpu_s,
            **msgspec.to_builtins(outcome),
        }

    return run


def _cpu_s(server: MeasuredServer) -> tuple[float, float, float]:
    """CPU seconds of the server's first process, of all its processes, and of the whole machine."""
    return stacks.cpu_s(server.leader), server.cpu_s(), stacks.machine_cpu_s()


# ---- plain PyTorch ----


def _bare(scenario: Hot, root: Path, stack: contextlib.ExitStack) -> Iterator[Window]:
    directory = str(root / scenario.model / "model")
    command = [sys.executable, "-m", "benchmarks.peers.bare", directory]
    process = stack.enter_context(
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    )
    stack.callback(process.terminate)
    assert process.stdout is not None
    process.stdout.readline()  # its imports must not fall into a window
    for batch, threads in scenario.bare:
        ask = {"batch": batch, "threads": threads, "seconds": scenario.seconds}
        yield _bare_window(process, ask | {"texts": texts(scenario)})


def _bare_window(process: subprocess.Popen[str], ask: dict[str, Any]) -> Window:
    assert process.stdin is not None
    assert process.stdout is not None
    stdin, stdout = process.stdin, process.stdout

    def run() -> dict[str, Any]:
        stdin.write(json.dumps(ask) + "\n")
        stdin.flush()
        figures = json.loads(stdout.readline())
        return {"side": "bare", "batch": ask["batch"], "threads": ask["threads"], **figures}

    return run
