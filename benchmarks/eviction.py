"""python -m benchmarks.eviction [--output DIR]

Compares eviction policies in a simulation: seeded traffic against the engine's `eviction.choose` and
`eviction.use`, with several cost functions. Nothing is timed, so that the results do not depend on the
machine. A promotion is assumed to take a fixed time plus a time per byte; `LINKS` has three such pairs.
`benchmarks.eviction_table` writes the table in docs/sizing.md.
"""

import argparse
import itertools
import json
import random
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from benchmarks import traffic
from model_handler.memory import eviction
from model_handler.memory.eviction import Candidate, Cost, Now, Standing

MB = 10**6
# bfloat16; the five of `full_models`, a small sentence encoder and a two-layer BERT
SIZES_MB = {
    "tiny": 9,
    "minilm": 45,
    "distilbert": 134,
    "marian": 150,
    "topics": 219,
    "ner": 219,
    "bart-large": 812,
}
LINKS = {"slow": (0.030, 5e9), "middle": (0.010, 20e9), "fast": (0.003, 50e9)}  # s, bytes/s
SEED = 7
REQUESTS = 12_000
WARM_UP = 4_000
RESULTS = Path(__file__).parent / "results/simulation"
PARAMETERS: dict[str, Any] = {
    "sizes_mb": SIZES_MB,
    "links": LINKS,
    "fixed_nbytes": eviction.FIXED_NBYTES,
    "half_life": eviction.HALF_LIFE,
    "seed": SEED,
    "requests": REQUESTS,
    "warm_up": WARM_UP,
}


def seconds(nbytes: int, link: str) -> float:
    """Time of one promotion."""
    fixed_s, nbytes_per_s = LINKS[link]
    return fixed_s + nbytes / nbytes_per_s


COSTS: dict[str, Cost] = {
    "lru": eviction.POLICIES["lru"],
    "gdsf": eviction.POLICIES["gdsf"],
    "gdsf, a return costs 1": lambda _: 1.0,
    "gdsf, a return costs its bytes": float,
}
CLAIRVOYANT = "next use last"  # knows the future: evicts the model whose next use is the latest


@dataclass(frozen=True)
class Setting:
    """`drift`: number of requests per model after which one popular model swaps its rank; 0: never."""

    models: int
    skew: float
    share: float
    drift: float


def settings() -> Iterator[Setting]:
    grid = itertools.product((50, 200, 500), (0.7, 0.9, 1.1), (0.1, 0.25, 0.5), (0, 0.25))
    return itertools.starmap(Setting, grid)


def sizes(setting: Setting) -> list[int]:
    """Sizes of the models in bytes, independent of popularity."""
    kinds = list(SIZES_MB.values())
    found = [kinds[number % len(kinds)] * MB for number in range(setting.models)]
    random.Random(SEED).shuffle(found)
    return found


def requests(setting: Setting) -> list[int]:
    """The model of each request."""
    draw = random.Random(SEED)
    by_rank = list(range(setting.models))
    every = round(setting.drift * setting.models)
    found = []
    shares = traffic.zipf(setting.models, setting.skew)
    for number, rank in enumerate(traffic.draws(shares, SEED, REQUESTS)):
        if every and number % every == every - 1:
            one, other = draw.randrange(setting.models // 10), draw.randrange(setting.models)
            by_rank[one], by_rank[other] = by_rank[other], by_rank[one]
        found.append(by_rank[rank])
    return found


class SimulatedDevice:
    """The models on a simulated device, and its evictions; every request is one use."""

    def __init__(self, sizes: Sequence[int], capacity: int) -> None:
        self.sizes = sizes
        self.free = capacity
        self.here: dict[int, Candidate] = {}
        self.clock = 0.0

    def bring(self, model: int) -> bool:
        """Use a model. True if it had to be promoted."""
        if model in self.here:
            return False
        choice = eviction.choose(self.here.values(), self.sizes[model] - self.free)
        self.clock = max(self.clock, choice.clock)
        for one in choice.leave:
            self.free += self.here.pop(one).nbytes
        self.free -= self.sizes[model]
        return True

    def note(self, model: int, standing: Standing) -> None:
        nbytes = self.sizes[model]
        self.here[model] = Candidate(model, nbytes, standing.priority, standing.used, leased=False)


def misses(setting: Setting, cost: Cost) -> Iterator[int]:
    """The models that had to be promoted, after the warm-up."""
    device = _device(setting)
    standings = [Standing()] * setting.models
    for number, model in enumerate(requests(setting), start=1):
        if device.bring(model) and number > WARM_UP:
            yield model
        now = Now(number, device.clock, setting.models)
        standings[model] = eviction.use(standings[model], device.sizes[model], now, cost)
        device.note(model, standings[model])


def clairvoyant_misses(setting: Setting) -> Iterator[int]:
    """Belady's rule. With models of different sizes it is not a bound, but shows the value of knowing the
    future."""
    device = _device(setting)
    asked = requests(setting)
    for number, (model, after) in enumerate(zip(asked, next_uses(asked), strict=True), start=1):
        if device.bring(model) and number > WARM_UP:
            yield model
        device.note(model, Standing(used=-after))


def _device(setting: Setting) -> SimulatedDevice:
    found = sizes(setting)
    return SimulatedDevice(found, int(setting.share * sum(found)))


def next_uses(asked: Sequence[int]) -> list[int]:
    """For each request, the index of the next request of its model; beyond the end if there is none."""
    following: dict[int, int] = {}
    found = []
    for number in reversed(range(len(asked))):
        found.append(following.get(asked[number], 2 * len(asked)))
        following[asked[number]] = number
    return found[::-1]


def figures(setting: Setting, missed: Sequence[int]) -> dict[str, Any]:
    """The results of one setting. Ratios are shares of the requests; bytes and ms are per request."""
    counted = REQUESTS - WARM_UP
    found = sizes(setting)
    asked = requests(setting)[WARM_UP:]
    largest = max(found)
    return {
        "miss_ratio": round(len(missed) / counted, 5),
        "nbytes": round(sum(found[one] for one in missed) / counted),
        "ms": {
            link: round(sum(seconds(found[one], link) for one in missed) / counted * 1e3, 4)
            for link in LINKS
        },
        "miss_ratio_of_largest": round(
            sum(found[one] == largest for one in missed)
            / sum(found[one] == largest for one in asked),
            5,
        ),
    }


def runs() -> Iterator[dict[str, Any]]:
    return itertools.chain.from_iterable(map(runs_of, settings()))


def runs_of(setting: Setting) -> Iterator[dict[str, Any]]:
    for policy, cost in COSTS.items():
        found = figures(setting, list(misses(setting, cost)))
        yield {**asdict(setting), "policy": policy, **found}
    found = figures(setting, list(clairvoyant_misses(setting)))
    yield {**asdict(setting), "policy": CLAIRVOYANT, **found}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--output", type=Path, default=RESULTS, help="directory for the raw JSON")
    arguments = parser.parse_args()
    arguments.output.mkdir(parents=True, exist_ok=True)
    text = json.dumps({**PARAMETERS, "runs": list(runs())}, indent=1) + "\n"
    (arguments.output / "eviction.json").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
