"""Short requests and a generating model: each alone, then both together, in rotating order."""

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import msgspec

from benchmarks import load, stacks, traffic
from benchmarks.scenarios import Hog, document
from benchmarks.stacks import HUGGING_FACE, OURS, MeasuredServer

MANY = 16  # short requests in flight at most


def measure(scenario: Hog, root: Path) -> dict[str, Any]:
    runs = []
    with (
        stacks.serving(OURS, root) as ours,
        stacks.serving(HUGGING_FACE, root) as theirs,
    ):
        servers = (ours, theirs)
        for server in servers:
            for model in (scenario.short, scenario.generating):
                server.load(model, root / model / "model")
                server.invoke(model, {"inputs": "word1"})
        for repetition in range(scenario.repetitions):
            for server in servers if repetition % 2 == 0 else reversed(servers):
                run = {"repetition": repetition, "side": server.name, **_round(scenario, server)}
                runs.append(run | {"load_average": os.getloadavg()[0]})
                print(f"  {json.dumps(_brief(run))}", flush=True)
    return {"runs": runs}


def _round(scenario: Hog, server: MeasuredServer) -> dict[str, Any]:
    short, long = _short(scenario, server.port), _long(scenario, server.port)
    alone = {"short": load.run(short), "generating": load.run(long)}
    both = {name: load.start(plan) for name, plan in (("short", short), ("generating", long))}
    together = _finished(both)
    return {"alone": msgspec.to_builtins(alone), "together": msgspec.to_builtins(together)}


def _finished(processes: dict[str, subprocess.Popen[bytes]]) -> dict[str, load.RequestOutcome]:
    return {name: load.finish(process) for name, process in processes.items()}


def _short(scenario: Hog, port: int) -> load.Plan:
    bodies = [json.dumps({"inputs": text}) for text in traffic.texts(30, 64, seed=1)]
    kinds = [load.RequestKind("short", f"/models/{scenario.short}/invoke", bodies)]
    return load.Plan(port, kinds, scenario.seconds, MANY, rate=scenario.rate)


def _long(scenario: Hog, port: int) -> load.Plan:
    model, sources = scenario.generating, traffic.texts(12, 8, seed=2)
    bodies = [json.dumps(document(model, text, scenario.new_tokens)) for text in sources]
    kinds = [load.RequestKind("generating", f"/models/{model}/invoke", bodies)]
    return load.Plan(port, kinds, scenario.seconds, clients=1, warmup_s=0.0)


def _brief(run: dict[str, Any]) -> dict[str, Any]:
    return {
        "side": run["side"],
        **{
            when: {
                "short_p99": round(run[when]["short"]["all"]["p99"], 1),
                "generating_per_s": round(run[when]["generating"]["per_s"], 3),
            }
            for when in ("alone", "together")
        },
    }
