"""The computation of figures from the raw results of a scenario.

Ratios are computed within one repetition, in which all sides ran within seconds of each other; the figure
is their median.
"""

import statistics
from collections.abc import Callable, Iterator, Mapping
from typing import Any

Raw = Mapping[str, Any]  # one scenario's file

OURS, PEER, TRITON, BARE = "ours", "hugging-face", "triton", "bare"
SHORT_TASKS = ("distilbert", "topics", "ner")


# ---- reading runs ----


def others_cores(run: Raw) -> float:
    """Cores that programs outside of the measurement used; 0 where it was not measured."""
    return float(run.get("others_cpu_s", 0.0) / run.get("lasted_s", 1.0))


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


Figure = Callable[[Raw], float]


def throughput(clients: int, peer: str = PEER, side: str = OURS) -> Figure:
    """Requests per second: the container's divided by the peer's."""
    return ratio(clients, side, peer, lambda run: run["per_s"])


def ratio(clients: int, side: str, other: str, value: Callable[[Raw], float]) -> Figure:
    """A value of one side's runs divided by the other side's."""

    def divided(runs: list[Raw]) -> float:
        mine, theirs = (one(runs, each, clients=clients) for each in (side, other))
        return float(value(mine) / value(theirs))

    return lambda raw: median(raw, divided)


def least_throughput(clients: tuple[int, ...], peer: str, side: str) -> Figure:
    """The lowest ratio of several numbers of clients."""
    return lambda raw: min(throughput(count, peer, side)(raw) for count in clients)


def cores_busy(clients: int, side: str) -> Figure:
    """CPU seconds per second of all processes of the server."""
    return lambda raw: median(
        raw, lambda runs: float(one(runs, side, clients=clients)["cores_busy"])
    )


def added_mb(stage: str, side: str, other: str) -> Figure:
    """Memory of one side minus the other's, after a stage."""

    def added(runs: list[Raw]) -> float:
        mine, theirs = (one(runs, each)["pss_nbytes"][stage]["all"] for each in (side, other))
        return float(mine - theirs) / 1e6

    return lambda raw: median(raw, added)


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
