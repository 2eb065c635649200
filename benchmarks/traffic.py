"""Traffic: models, texts and arrival times, computed from a seed before the first request is sent.

The functions are pure: the same seed gives the same traffic on every machine.
"""

import bisect
import itertools
import random
from collections.abc import Iterator, Sequence

ENOUGH = 1 << 16  # draws before a sequence repeats itself


def zipf(count: int, skew: float) -> list[float]:
    """Shares of `count` models, the most popular first; they add up to 1."""
    weights = [rank**-skew for rank in range(1, count + 1)]
    total = sum(weights)
    return [weight / total for weight in weights]


def poisson(rate: float, seconds: float, seed: int) -> list[float]:
    """Arrival times below `seconds`: independent of each other, `rate` per second on average."""
    draw = random.Random(seed)
    arrivals: list[float] = []
    at = draw.expovariate(rate)
    while at < seconds:
        arrivals.append(at)
        at += draw.expovariate(rate)
    return arrivals


def draws(weights: Sequence[float], seed: int, count: int = ENOUGH) -> list[int]:
    """`count` indices, each drawn with its weight."""
    draw = random.Random(seed)
    bounds = list(itertools.accumulate(weights))
    last = len(bounds) - 1
    return [min(bisect.bisect(bounds, draw.random() * bounds[-1]), last) for _ in range(count)]


def texts(words: int, count: int, seed: int) -> list[str]:
    """`count` texts of `words` words, each one token of the benchmark models' tokenizer."""
    draw = random.Random(seed)
    return [" ".join(f"word{draw.randrange(20_000)}" for _ in range(words)) for _ in range(count)]


def ragged(count: int, seed: int, longest: int = 126) -> list[str]:
    """Texts of lognormal length, with a median of 20 words."""
    draw = random.Random(seed)
    lengths = (min(longest, max(1, round(draw.lognormvariate(3.0, 0.7)))) for _ in range(count))
    return [texts(length, 1, seed + number)[0] for number, length in enumerate(lengths)]


def percentile(ordered: Sequence[float], share: float) -> float:
    """The smallest sample that `share` of all samples do not exceed; `samples` are in ascending order."""
    if not ordered:
        raise ValueError("no samples")
    return ordered[max(0, -int(-share * len(ordered) // 1) - 1)]


def cycle(order: Sequence[int]) -> Iterator[int]:
    return itertools.cycle(order)
