"""Measures the CPU time of the real front process, over workers that compute nothing."""

import dataclasses
import json
import statistics
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np

from benchmarks import load, stacks, traffic
from benchmarks.load import RequestKind, RequestOutcome
from benchmarks.simulation.costs import FrontCosts
from benchmarks.simulation.measuring.idle_front import BATCH_MS
from benchmarks.stacks import MeasuredServer, Stack

IDLE = Stack(
    "ours",
    (sys.executable, "-m", "benchmarks.simulation.measuring.idle_front"),
    {"MME_DEVICE": "cpu", "MME_MAX_QUEUE": "1024", "MME_WORKERS": "1"},
)
SATURATED = ((1, 32), (1, 128), (20, 8), (20, 32), (20, 128))  # models, clients
SATURATED_MS = "0"
LIGHT = ((1, 1), (20, 1), (20, 8))
LIGHT_MS = "2"
SKEW = 0.9
WINDOW_S = 2.0


class FrontWindow(NamedTuple):
    """CPU seconds per request, of the front and of the load generator; requests per batch."""

    front_s: float
    client_s: float
    batch: float


def measure(root: Path, model: str, repetitions: int) -> tuple[FrontCosts, float]:
    """And the load generator's cost of a request. `model`: directory in `root`, loaded under many names."""
    saturated = list(_windows(root, model, SATURATED, SATURATED_MS, repetitions))
    light = list(_windows(root, model, LIGHT, LIGHT_MS, repetitions))
    client_s = statistics.median(window.client_s for window in saturated)
    return fitted(saturated, light), client_s


def fitted(saturated: list[FrontWindow], light: list[FrontWindow]) -> FrontCosts:
    """While the front is saturated, the cost of its turns is shared by many events and is not counted. Under
    light load every request and every batch has a turn of its own."""
    columns = np.array([(1.0, 1.0 / window.batch) for window in saturated])
    costs = np.array([window.front_s for window in saturated])
    request_s, batch_s = map(float, np.linalg.lstsq(columns, costs, rcond=None)[0])
    turns = [
        (window.front_s - request_s - batch_s / window.batch) / (1.0 + 1.0 / window.batch)
        for window in light
    ]
    return FrontCosts(max(0.0, statistics.median(turns)), batch_s, request_s)


def _windows(
    root: Path, model: str, traffics: tuple[tuple[int, int], ...], batch_ms: str, repetitions: int
) -> Iterator[FrontWindow]:
    """For each kind of traffic, the window in which the front used the least."""
    own = {BATCH_MS: batch_ms, "MME_MODEL_ROOT": str(root.resolve())}
    stack = dataclasses.replace(IDLE, settings=IDLE.settings | own)
    with stacks.serving(stack, root) as server:
        for number in range(max(models for models, _ in traffics)):
            server.load(f"{model}-{number}", root / model / "model")
        for models, clients in traffics:
            names = [f"{model}-{number}" for number in range(models)]
            plan = load.Plan(server.port, kinds(names), WINDOW_S, clients)
            yield min(_window(server, plan) for _ in range(repetitions))


def kinds(names: list[str]) -> list[RequestKind]:
    """Requests by Zipf's law, most for the first."""
    bodies = [json.dumps({"inputs": text}) for text in traffic.ragged(256, 7)]
    shares = traffic.zipf(len(names), SKEW)
    return [
        RequestKind(name, f"/models/{name}/invoke", bodies, share)
        for name, share in zip(names, shares, strict=True)
    ]


def _window(server: MeasuredServer, plan: load.Plan) -> FrontWindow:
    batches, requests = batch_counts(server)
    cpu_s = stacks.cpu_s(server.leader)
    outcome: RequestOutcome = load.run(plan)
    used_s = stacks.cpu_s(server.leader) - cpu_s
    more_batches, more_requests = batch_counts(server)
    answered = more_requests - requests
    client_s = outcome.generator_cpu_s / answered
    return FrontWindow(used_s / answered, client_s, answered / (more_batches - batches))


def batch_counts(server: MeasuredServer) -> tuple[float, float]:
    """Batches so far, and their requests."""
    lines = server.client.get("/metrics").text.splitlines()
    values = dict(line.rsplit(" ", 1) for line in lines if line.startswith("mme_batch_size_"))
    return float(values["mme_batch_size_count"]), float(values["mme_batch_size_sum"])
