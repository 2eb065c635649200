"""Time of work on a device, which runs on after the call that starts it has returned."""

import statistics
import time
from collections.abc import Callable

import torch

Timed = Callable[[], object]


def synchronize(device: str) -> None:
    if device == "cuda":
        torch.cuda.synchronize()


def seconds(device: str, work: Timed) -> float:
    """Time of one run, until the device has finished."""
    synchronize(device)
    began = time.perf_counter()
    work()
    synchronize(device)
    return time.perf_counter() - began


def median_s(device: str, work: Timed, times: int = 5, warm: int = 1) -> float:
    for _ in range(warm):
        work()
    return statistics.median(seconds(device, work) for _ in range(times))


def gb_per_s(nbytes: int, taken_s: float) -> float:
    return round(nbytes / max(taken_s, 1e-9) / 1e9, 2)


def ms(taken_s: float) -> float:
    return round(taken_s * 1e3, 3)
