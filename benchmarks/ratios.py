"""The chart in the README: throughput as ratios to other servers, and memory of fifty models.

Plain SVG with a white background, so that it can be read on light and dark pages.
"""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from html import escape

from benchmarks.figures import PEER, TRITON, Raw, throughput
from benchmarks.svg import Card

PEERS = {PEER: ("Hugging Face toolkit", "#0969da"), TRITON: ("Triton", "#bc4c00")}
WORKLOADS = (  # name, number of clients, scenarios (one per peer)
    ("one small model", 1, ("hot-tiny-015", "hot-tiny-015-triton")),
    ("one small model", 8, ("hot-tiny-015", "hot-tiny-015-triton")),
    ("one small model", 32, ("hot-tiny-015", "hot-tiny-015-triton")),
    ("distilbert", 8, ("hot-distilbert-032", "hot-distilbert-032-triton")),
    ("distilbert", 32, ("hot-distilbert-032", "hot-distilbert-032-triton")),
    ("20 models, Zipf", 8, ("zipf-20", "zipf-20-triton")),
    ("20 models, Zipf", 32, ("zipf-20", "zipf-20-triton")),
    ("50 models, Zipf", 8, ("zipf-50",)),
    ("50 models, Zipf", 32, ("zipf-50",)),
    ("five tasks, full-size models", 8, ("five-models",)),
)
MANY = "zipf-50"
WIDTH, LEFT, RIGHT, TOP, BAR, GAP = 860, 260, 820, 84, 11, 9
LOWEST, HIGHEST = 0.5, 5.0
STYLE = (
    "text{font:13px system-ui,-apple-system,'Segoe UI',Helvetica,Arial,sans-serif;fill:#1f2328}"
    " .title{font-weight:600;font-size:15px} .small{font-size:11px} .quiet{fill:#59636e}"
    " .grid{stroke:#d1d9e0} .equal{stroke:#1f2328}"
)


@dataclass(frozen=True)
class Workload:
    """`ratios`: per peer, our requests per second over the peer's."""

    label: str
    ratios: Mapping[str, float]


@dataclass(frozen=True)
class MemoryUse:
    """Memory and processes of one server with all models of a mix, after each has answered."""

    who: str
    gigabytes: float
    processes: int

    def __str__(self) -> str:
        return f"{count(self.processes, 'process')}, {self.gigabytes:.3g} GB"


def count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}es"


def workloads(results: Mapping[str, Raw]) -> Iterator[Workload]:
    """The measured workloads."""
    for label, clients, names in WORKLOADS:
        ratios = {}
        for raw in (results[name] for name in names if name in results):
            peer = raw["scenario"]["peer"]
            ratios[peer] = throughput(clients, peer)(raw)
        if ratios:
            yield Workload(f"{label}, {clients} client{'s' * (clients > 1)}", ratios)


def footprints(results: Mapping[str, Raw]) -> tuple[MemoryUse, MemoryUse]:
    """Ours and the Hugging Face toolkit's, fifty models each."""
    raw = results[MANY]
    ours, theirs = (
        MemoryUse(who, raw["pss_nbytes"][side] / 1e9, raw["processes"][side])
        for who, side in (("this container", "ours"), (PEERS[PEER][0], PEER))
    )
    return ours, theirs


def described(results: Mapping[str, Raw]) -> str:
    """The content of the chart in one sentence, for its alternative text."""
    ratios = [ratio for each in workloads(results) for ratio in each.ratios.values()]
    ours, theirs = footprints(results)
    return (
        f"Requests per second over those of others: from {min(ratios):.2g} to {max(ratios):.2g}"
        f" times; fifty models take {ours} here, {theirs} with the Hugging Face toolkit"
    )


# ---- drawing ----


def chart(results: Mapping[str, Raw]) -> str:
    shown = list(workloads(results))
    bars, bottom = _rows(shown)
    memory = _memory(footprints(results), bottom + 52)
    card = Card(WIDTH, bottom + 136, background="#ffffff", border="#d1d9e0")
    return card.svg(described(results), STYLE, [*_head(), *_axis(bottom), *bars, *memory])


def _x(ratio: float) -> float:
    """The x position of a ratio, on a logarithmic scale."""
    share = math.log(ratio / LOWEST) / math.log(HIGHEST / LOWEST)
    return round(LEFT + share * (RIGHT - LEFT), 1)


def _text(x: float, y: float, text: str, kind: str = "", anchor: str = "start") -> str:
    return f'<text x="{x}" y="{y}" class="{kind}" text-anchor="{anchor}">{escape(text)}</text>'


def _head() -> Iterator[str]:
    yield _text(20, 30, "Requests per second, as a multiple of", "title")
    x = 400
    for name, colour in PEERS.values():
        yield f'<rect x="{x}" y="18" width="14" height="14" fill="{colour}"/>'
        yield _text(x + 20, 30, name, "title")
        x += 210
    yield _text(_x(1) - 8, 56, "← slower than the other", "small quiet", "end")
    yield _text(_x(1) + 8, 56, "faster →", "small quiet")


def _axis(bottom: int) -> Iterator[str]:
    for tick in (0.5, 1, 2, 3, 4, 5):
        kind = "equal" if tick == 1 else "grid"
        yield f'<line class="{kind}" x1="{_x(tick)}" x2="{_x(tick)}" y1="64" y2="{bottom}"/>'
        yield _text(_x(tick), bottom + 15, f"{tick:g}×", "small quiet", "middle")


def _rows(shown: list[Workload]) -> tuple[list[str], int]:
    """The bars, and where they end."""
    parts, y = [], TOP - 8
    for each in shown:
        tall = BAR * len(each.ratios)
        parts.append(_text(LEFT - 10, y + tall / 2 + 4, each.label, anchor="end"))
        for number, (peer, ratio) in enumerate(each.ratios.items()):
            parts += _bar(ratio, y + number * BAR, PEERS[peer][1])
        y += tall + GAP
    return parts, y


def _bar(ratio: float, y: int, colour: str) -> Iterator[str]:
    """A bar from ratio 1 to the measured ratio; pale if the other server is faster."""
    one, end = _x(1), _x(ratio)
    pale = ' fill-opacity="0.5"' if ratio < 1 else ""
    left, width = min(one, end), round(abs(end - one), 1)
    yield f'<rect x="{left}" y="{y}" width="{width}" height="{BAR - 1}" fill="{colour}"{pale}/>'
    away, anchor = (-4, "end") if ratio < 1 else (4, "start")
    yield _text(end + away, y + 9, f"{ratio:.2f}", "small", anchor)


def _memory(both: tuple[MemoryUse, MemoryUse], y: int) -> Iterator[str]:
    yield _text(20, y, "Memory and processes for fifty small models", "title")
    most = max(each.gigabytes for each in both)
    for number, each in enumerate(both):
        top = y + 14 + number * 28
        width = round(each.gigabytes / most * (RIGHT - LEFT - 150), 1)
        colour = PEERS[PEER][1] if number else "#1a7f37"
        yield _text(LEFT - 10, top + 14, each.who, anchor="end")
        yield f'<rect x="{LEFT}" y="{top}" width="{width}" height="18" fill="{colour}"/>'
        yield _text(LEFT + width + 6, top + 14, str(each))
