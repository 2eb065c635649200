"""The performance targets: each with its bound, and the computation of its value from the raw results.

Ratios are computed within one repetition, in which both sides ran within seconds of each other; the value
is their median.
"""

import statistics
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

Raw = Mapping[str, Any]  # one scenario's file

OURS, PEER, TRITON, BARE = "ours", "hugging-face", "triton", "bare"
SHORT_TASKS = ("distilbert", "topics", "ner")


@dataclass(frozen=True)
class Target:
    """`figure` computes the value from the result of `scenario`; bounds: at most `most`, at least `least`."""

    name: str
    what: str
    scenario: str
    figure: Callable[[Raw], float]
    most: float | None = None
    least: float | None = None
    unit: str = "×"

    def met(self, value: float) -> bool:
        if self.most is not None:
            return value <= self.most
        assert self.least is not None
        return value >= self.least

    def bound(self) -> str:
        sign, number = ("≤", self.most) if self.most is not None else ("≥", self.least)
        return f"{sign} {number:g} {self.unit}"


# ---- reading runs ----


def _rounds(raw: Raw) -> Iterator[list[Raw]]:
    """The runs of one repetition after the other."""
    for number in sorted({run["repetition"] for run in raw["runs"]}):
        yield [run for run in raw["runs"] if run["repetition"] == number]


def one(runs: list[Raw], side: str, **wanted: Any) -> Raw:
    """The run of a side with these settings."""
    wanted["side"] = side
    (found,) = [run for run in runs if all(run.get(key) == wanted[key] for key in wanted)]
    return found


def median(raw: Raw, figure: Callable[[list[Raw]], float]) -> float:
    """Median of one value per repetition."""
    return statistics.median(figure(runs) for runs in _rounds(raw))


def throughput(clients: int, peer: str = PEER) -> Callable[[Raw], float]:
    """Requests per second: the container's divided by the peer's."""

    def ratio(runs: list[Raw]) -> float:
        ours, theirs = (one(runs, side, clients=clients) for side in (OURS, peer))
        return float(ours["per_s"] / theirs["per_s"])

    return lambda raw: median(raw, ratio)


def served_over_bare(threads: int = 1) -> Callable[[Raw], float]:
    """Throughput with 32 clients divided by that of plain PyTorch with batches of 32."""

    def ratio(runs: list[Raw]) -> float:
        bare = one(runs, BARE, batch=32, threads=threads)
        return float(one(runs, OURS, clients=32)["per_s"] / bare["per_s"])

    return lambda raw: median(raw, ratio)


def overhead_us(raw: Raw) -> float:
    """CPU time per request of all processes, minus the CPU time of plain PyTorch per text."""

    def over(runs: list[Raw]) -> float:
        bare = one(runs, BARE, batch=32, threads=1)["cpu_s_per_text"]
        return float(one(runs, OURS, clients=32)["cpu_s_per_request"] - bare) * 1e6

    return median(raw, over)


def front_us(raw: Raw) -> float:
    return median(
        raw, lambda runs: float(one(runs, OURS, clients=32)["leader_cpu_s_per_request"]) * 1e6
    )


def short_p99(raw: Raw) -> float:
    """The worst ratio of the p99 of short tasks: the peer's divided by the container's."""

    def worst(run: Raw) -> float:
        return max(float(run["kinds"][name]["p99"]) for name in SHORT_TASKS)

    return median(
        raw, lambda runs: worst(one(runs, PEER, clients=8)) / worst(one(runs, OURS, clients=8))
    )


def load_times(raw: Raw) -> float:
    """The peer's load time divided by the container's; median over the models."""
    pairs = zip(raw["load_s"][PEER], raw["load_s"][OURS], strict=True)
    return statistics.median(float(theirs / ours) for theirs, ours in pairs)


def cold(clock: str) -> Callable[[Raw], float]:
    return lambda raw: statistics.median(
        float(run["ours"][clock] / run["from_pretrained"][clock]) for run in raw["runs"]
    )


def start_s(raw: Raw) -> float:
    return median(raw, lambda runs: float(one(runs, OURS)["ping_s"]))


def loaded_s(raw: Raw) -> float:
    return statistics.median(float(run["all_loaded_s"]) for run in raw["runs"])


def anonymous_mb(raw: Raw) -> float:
    return statistics.median(float(run["anonymous_nbytes_per_model"]) for run in raw["runs"]) / 1e6


def beside_alone(side: str) -> Callable[[Raw], float]:
    def ratio(runs: list[Raw]) -> float:
        run = one(runs, side)
        return float(run["beside"]["p99"] / run["alone"]["p99"])

    return lambda raw: median(raw, ratio)


def steps_waited(raw: Raw) -> float:
    """Increase of the p99 of short requests by a generating model, in decode steps."""

    def steps(runs: list[Raw]) -> float:
        run = one(runs, OURS)
        new_tokens = raw["scenario"]["new_tokens"]
        step_ms = 1e3 / (run["alone"]["generating"]["per_s"] * new_tokens)
        grown = run["together"]["short"]["all"]["p99"] - run["alone"]["short"]["all"]["p99"]
        return float(grown / step_ms)

    return median(raw, steps)


def generation_kept(raw: Raw) -> float:
    def kept(runs: list[Raw]) -> float:
        run = one(runs, OURS)
        return float(run["together"]["generating"]["per_s"] / run["alone"]["generating"]["per_s"])

    return median(raw, kept)


def refusal_ms(raw: Raw) -> float:
    ordered = sorted(raw["refusal_ms"])
    return float(ordered[int(0.99 * (len(ordered) - 1))])


def drift(raw: Raw) -> float:
    """Growth of anonymous memory after the first tenth of the cycles (warm-up), in percent."""
    sizes = [each["anonymous_nbytes"] for each in raw["memory"]]
    warm = sizes[max(1, len(sizes) // 10)]
    return float(sizes[-1] / warm - 1) * 100


TARGETS = (
    Target(
        "cold start, CPU time",
        "(load + first answer − later answer), divided by the same with from_pretrained, bert-base",
        "cold",
        cold("cpu_s"),
        most=0.25,
    ),
    Target("cold start, wall time", "the same in elapsed time", "cold", cold("wall_s"), most=0.25),
    Target(
        "load",
        "the Hugging Face toolkit's load time divided by ours, five full-size models",
        "five-models",
        load_times,
        least=25,
    ),
    Target("start", "process start to /ping", "start", start_s, most=0.7, unit="s"),
    Target(
        "50 tiny models",
        "time to load them over HTTP, eight at a time, into a running worker",
        "storm",
        loaded_s,
        most=3,
        unit="s",
    ),
    Target(
        "memory per model",
        "anonymous memory per idle tiny model, without its weights",
        "storm",
        anonymous_mb,
        most=2,
        unit="MB",
    ),
    Target(
        "served / plain PyTorch, bert-base",
        "texts per second with 32 clients, divided by plain PyTorch's in batches of 32;"
        " 32 tokens, both on two cores",
        "hot-bert-032",
        served_over_bare(threads=2),
        least=0.95,
    ),
    Target(
        "served / plain PyTorch, tiny",
        "the same with a tiny model, both computing with one thread",
        "hot-tiny-032",
        served_over_bare(),
        least=0.75,
    ),
    Target(
        "overhead",
        "the server's CPU time per request minus plain PyTorch's per text, tiny model, 32 clients",
        "hot-tiny-032",
        overhead_us,
        most=120,
        unit="µs",
    ),
    Target("front", "the part for HTTP and queues", "hot-tiny-032", front_us, most=60, unit="µs"),
    Target(
        "tiny, 32 clients",
        "requests per second divided by the Hugging Face toolkit's, 13 words",
        "hot-tiny-015",
        throughput(32),
        least=5,
    ),
    Target("distilbert, 8 clients", "the same", "hot-distilbert-032", throughput(8), least=1.8),
    Target("distilbert, 32 clients", "the same", "hot-distilbert-032", throughput(32), least=1.8),
    Target("Zipf over 20 tiny", "the same, 32 clients", "zipf-20", throughput(32), least=2),
    Target("Zipf over 50 tiny", "the same, 32 clients", "zipf-50", throughput(32), least=2),
    Target("five models", "the same, 8 clients", "five-models", throughput(8), least=1),
    Target(
        "tiny, compared with Triton",
        "requests per second divided by those of Triton's Python backend, 13 words, 32 clients",
        "hot-tiny-015-triton",
        throughput(32, TRITON),
        least=1,
    ),
    Target(
        "distilbert, compared with Triton",
        "the same, 30 words",
        "hot-distilbert-032-triton",
        throughput(32, TRITON),
        least=1,
    ),
    Target(
        "Zipf over 20 tiny, compared with Triton",
        "the same, texts of random lengths",
        "zipf-20-triton",
        throughput(32, TRITON),
        least=1,
    ),
    Target(
        "five models, short tasks",
        "the toolkit's p99 divided by ours, the worst of three short tasks",
        "five-models",
        short_p99,
        least=20,
    ),
    Target(
        "neighbours",
        "p99 of one client while other models load and unload, divided by its p99 without them",
        "neighbours",
        beside_alone(OURS),
        most=2,
    ),
    Target(
        "short requests during a generation",
        "increase of their p99, in decode steps of the generating model",
        "hog",
        steps_waited,
        most=2,
        unit="steps",
    ),
    Target(
        "generation during short requests",
        "the generation's speed divided by its speed alone",
        "hog",
        generation_kept,
        least=0.9,
    ),
    Target("refusal", "p99 of loads answered 507", "cycles", refusal_ms, most=5, unit="ms"),
    Target(
        "memory growth",
        "growth of memory over load/unload cycles, after a warm-up",
        "cycles",
        drift,
        most=1,
        unit="%",
    ),
)
