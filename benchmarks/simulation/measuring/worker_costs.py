"""Measures what the batches of one model cost in a real worker process.

Each time is the least of several repetitions, since other programs on the machine only add to it.
"""

import json
import random
import statistics
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from benchmarks import traffic
from benchmarks.simulation.costs import LinearCost, ModelCosts
from benchmarks.simulation.measuring import real_worker
from benchmarks.simulation.measuring.real_worker import RealWorker
from model_handler.messages import InferenceRequest

THREADS = (1, 2)
SPECIAL_TOKENS = 2
BETWEEN = 12  # batches in a row, for the share of the interpreter


class TimedBatch(NamedTuple):
    """A batch, and its seconds."""

    rows: int
    tokens: int
    seconds: float


class Effort(NamedTuple):
    """`batches`: number of batches for each of the `rows`, each of which is computed `repetitions` times."""

    rows: tuple[int, ...]
    batches: int
    repetitions: int


class BatchSampler:
    """Draws batches of texts of various lengths."""

    def __init__(self, seed: int = 7) -> None:
        self._texts = traffic.ragged(256, seed)
        self._draw = random.Random(seed)

    def batch(self, rows: int) -> tuple[list[InferenceRequest], int]:
        """The requests, and their tokens."""
        texts = self._draw.choices(self._texts, k=rows)
        tokens = sum(len(text.split()) + SPECIAL_TOKENS for text in texts)
        bodies = [json.dumps({"inputs": text}).encode() for text in texts]
        return [InferenceRequest(body, "application/json") for body in bodies], tokens


def measure(directories: Sequence[Path], effort: Effort) -> ModelCosts:
    """`directories`: two models of one structure, the second of which is loaded like a replica."""
    sampler = BatchSampler()
    with real_worker.running() as worker:
        first, second = (worker.load(*pair) for pair in enumerate(directories, start=1))
        one, two = (list(_samples(worker, sampler, threads, effort)) for threads in THREADS)
        shares = [_interpreter(worker, sampler, rows, effort) for rows in (1, 2, 4)]
    return ModelCosts(
        fitted([sample for _, sample in one]),
        (fitted([sample for sample, _ in one]), fitted([sample for sample, _ in two])),
        statistics.median(shares),
        first.seconds,
        second.seconds,
        second.nbytes,
        second.private_nbytes,
    )


def _samples(
    worker: RealWorker, sampler: BatchSampler, threads: int, effort: Effort
) -> Iterator[tuple[TimedBatch, TimedBatch]]:
    """Of the forwards, and of the work of the other threads."""
    for rows in effort.rows * effort.batches:
        requests, tokens = sampler.batch(rows)
        times = [_alone(worker, requests, threads) for _ in range(effort.repetitions)]
        forward_s, host_s = (min(seconds) for seconds in zip(*times, strict=True))
        yield TimedBatch(rows, tokens, forward_s), TimedBatch(rows, tokens, host_s)


def _alone(
    worker: RealWorker, requests: Sequence[InferenceRequest], threads: int = 1
) -> tuple[float, float]:
    """A forward while nothing else runs in its worker: its time, and the CPU time of all threads but the one
    that computes, which uses the most."""
    before = worker.thread_cpu_s()
    worker.start(1, requests, threads)
    forward_s = worker.done().forward_s
    used = sorted(a - b for a, b in zip(worker.thread_cpu_s(), before, strict=False))
    return forward_s, sum(used[:-threads])


def _interpreter(worker: RealWorker, sampler: BatchSampler, rows: int, effort: Effort) -> float:
    """The share of the interpreter that a forward needs: while the host thread works for `h` seconds a batch,
    the forward of another batch becomes longer by `share × h`."""
    drawn = [sampler.batch(rows)[0] for _ in range(BETWEEN)]
    alone = [[_alone(worker, requests) for requests in drawn] for _ in range(effort.repetitions)]
    forward_s, host_s = (
        sum(min(times[index] for times in of_one) for of_one in zip(*alone, strict=True))
        for index in (0, 1)
    )
    both_s = min(_overlapping(worker, drawn) for _ in range(effort.repetitions))
    return float(min(1.0, max(0.0, (both_s - forward_s) / host_s)))


def _overlapping(worker: RealWorker, batches: Sequence[Sequence[InferenceRequest]]) -> float:
    """Seconds for the batches, of which one is prepared while another computes."""
    worker.start(1, batches[0])
    began = time.perf_counter()
    for requests in batches[1:]:
        worker.start(1, requests)
        worker.done()
    worker.done()
    return time.perf_counter() - began


def fitted(samples: Sequence[TimedBatch]) -> LinearCost:
    """Least squares of the relative error, without negative coefficients."""
    seconds = np.array([sample.seconds for sample in samples])
    columns = np.array([(1.0, sample.rows, sample.tokens) for sample in samples])
    weighted = columns / seconds[:, None]
    used = [0, 1, 2]
    coefficients = np.zeros(3)
    while used:
        found = np.linalg.lstsq(weighted[:, used], np.ones(len(samples)), rcond=None)[0]
        if (found >= 0).all():
            coefficients[used] = found
            break
        used.pop(int(found.argmin()))
    errors = np.abs(weighted @ coefficients - 1.0)
    fixed_s, row_s, token_s = map(float, coefficients)
    return LinearCost(fixed_s, row_s, token_s, float(np.median(errors)))
