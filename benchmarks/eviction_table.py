"""python -m benchmarks.eviction_table

Writes the table in docs/sizing.md, between its two comments, from the results of `benchmarks.eviction`.
"""

import json
import statistics
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from benchmarks import eviction
from benchmarks.marked import filled

PAGE = Path(__file__).parent.parent / "docs/sizing.md"
RawRun = dict[str, Any]


def main() -> None:
    PAGE.write_text(page(PAGE.read_text(encoding="utf-8"), stored()), encoding="utf-8")


def stored() -> dict[str, Any]:
    found: dict[str, Any] = json.loads((eviction.RESULTS / "eviction.json").read_text())
    return found


def page(text: str, result: dict[str, Any]) -> str:
    return filled(text, "eviction", table(result))


def table(result: dict[str, Any]) -> Iterator[str]:
    links = "".join(f" wait, ms: {rate / 1e9:.0f} GB/s |" for _, rate in result["links"].values())
    yield f"| policy | misses |{links} at most × lru's | misses of the largest |"
    yield f"|---|---|{'---|' * len(result['links'])}---|---|"
    for traffic, drifts in (("", False), (", drifting", True)):
        runs = [run for run in result["runs"] if bool(run["drift"]) is drifts]
        for policy in dict.fromkeys(run["policy"] for run in runs):
            yield _row(policy + traffic, of(runs, policy), of(runs, "lru"))
    yield ""
    yield from _largest(of(result["runs"], "gdsf"), of(result["runs"], "lru"))


def of(runs: Sequence[RawRun], policy: str) -> list[RawRun]:
    return [run for run in runs if run["policy"] == policy]


def _row(name: str, runs: Sequence[RawRun], lru: Sequence[RawRun]) -> str:
    cells = [
        name,
        f"{_mean(runs, lambda run: run['miss_ratio']):.3f}",
        *(f"{statistics.fmean(run['ms'][link] for run in runs):.1f}" for link in runs[0]["ms"]),
        f"{most(runs, lru):.2f}",
        f"{_mean(runs, lambda run: run['miss_ratio_of_largest']):.3f}",
    ]
    return f"| {' | '.join(cells)} |"


def _largest(runs: Sequence[RawRun], lru: Sequence[RawRun]) -> Iterator[str]:
    """The largest ratios, which the means do not show."""
    of_largest = "miss_ratio_of_largest"
    ratios = [ours[of_largest] / theirs[of_largest] for ours, theirs in zip(runs, lru, strict=True)]
    worse, better = sum(ratio > 1 for ratio in ratios), sum(ratio < 1 for ratio in ratios)
    yield f"Of {len(ratios)} settings, the largest models miss more often with `gdsf` than with `lru`"
    yield f"in {worse}, by up to {max(ratios) - 1:.0%}, and less often in {better},"
    yield f"by up to {1 - min(ratios):.0%}."


def _mean(runs: Sequence[RawRun], figure: Callable[[RawRun], float]) -> float:
    return statistics.fmean(map(figure, runs))


def most(runs: Sequence[RawRun], lru: Sequence[RawRun]) -> float:
    """The wait as a multiple of lru's, in the setting and on the link where that is highest."""
    pairs = zip(runs, lru, strict=True)
    return max(
        float(ours["ms"][link] / theirs["ms"][link])
        for ours, theirs in pairs
        for link in ours["ms"]
    )


if __name__ == "__main__":
    main()
