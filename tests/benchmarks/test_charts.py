"""The chart of ratios in the README: its content, and that it agrees with the stored results."""

import re
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from benchmarks import document, plots, ratios
from benchmarks.figures import PEER, TRITON

STORED = document.ROOT / "benchmarks/results/2-core-epyc_2026-11"
SVG = "{http://www.w3.org/2000/svg}"


def measured(peer: str, per_s: dict[int, tuple[float, float]]) -> dict[str, Any]:
    """One round of results: requests per second of both servers, by number of clients."""
    runs = [
        {"repetition": 0, "side": side, "clients": clients, "per_s": figure}
        for clients, pair in per_s.items()
        for side, figure in zip(("ours", peer), pair, strict=True)
    ]
    return {"scenario": {"peer": peer}, "runs": runs}


def results() -> dict[str, Any]:
    many = measured(PEER, {8: (30.0, 20.0), 32: (40.0, 20.0)}) | {
        "pss_nbytes": {"ours": 500_000_000, PEER: 20_000_000_000},
        "processes": {"ours": 1, PEER: 101},
    }
    return {
        "hot-distilbert-032": measured(PEER, {8: (30.0, 10.0), 32: (20.0, 10.0)}),
        "hot-distilbert-032-triton": measured(TRITON, {8: (5.0, 10.0), 32: (10.0, 10.0)}),
        "zipf-50": many,
    }


def bars(svg: str, colour: str) -> list[tuple[float, float, bool]]:
    """Left edge and right edge of each throughput bar, and whether it is pale."""
    found = ElementTree.fromstring(svg).iter(f"{SVG}rect")
    thin = [each for each in found if each.get("height") == str(ratios.BAR - 1)]
    return [
        (left, left + float(each.attrib["width"]), each.get("fill-opacity") is not None)
        for each in thin
        if each.get("fill") == colour
        for left in [float(each.attrib["x"])]
    ]


def test_ratios_are_ours_over_theirs_of_each_peer_that_was_measured() -> None:
    shown = {each.label: dict(each.ratios) for each in ratios.workloads(results())}
    assert shown == {
        "distilbert, 8 clients": {PEER: 3.0, TRITON: 0.5},
        "distilbert, 32 clients": {PEER: 2.0, TRITON: 1.0},
        "50 models, Zipf, 8 clients": {PEER: 1.5},
        "50 models, Zipf, 32 clients": {PEER: 2.0},
    }


def test_bars_go_right_where_we_are_faster_and_left_and_pale_where_we_are_slower() -> None:
    svg = ratios.chart(results())
    lines = ElementTree.fromstring(svg).iter(f"{SVG}line")
    (equal,) = [float(line.attrib["x1"]) for line in lines if line.get("class") == "equal"]
    faster = bars(svg, ratios.PEERS[PEER][1])
    slower, level = bars(svg, ratios.PEERS[TRITON][1])
    assert [(left, pale) for left, _, pale in faster] == [(equal, False)] * 4
    assert faster[0][1] > faster[1][1] == faster[3][1] > equal
    assert slower[1] == pytest.approx(equal, abs=0.2)
    assert slower[2]
    assert slower[0] < equal
    assert level == (equal, equal, False)


def test_what_fifty_models_take_stands_in_picture_and_description() -> None:
    svg = ratios.chart(results())
    assert "1 process, 0.5 GB" in svg
    assert "101 processes, 20 GB" in svg
    assert "from 0.5 to 3 times" in ratios.described(results())
    assert ratios.described(results()) in svg


def test_every_peer_and_workload_of_the_results_is_in_the_chart_in_words() -> None:
    """Also where the peer is faster. Only scenarios with other text lengths are left out."""
    stored = document.read(STORED)
    peers = {
        name
        for name, raw in stored.items()
        if isinstance(raw.get("scenario"), dict) and raw["scenario"].get("peer") in ratios.PEERS
        if name not in {"hot-tiny-032", "hot-tiny-128", "hot-tiny-384"}
    }
    drawn = {name for _, _, names in ratios.WORKLOADS for name in names}
    assert peers <= drawn
    for name in drawn:
        measured_with = {run["clients"] for run in stored[name]["runs"] if run["side"] == "ours"}
        asked = {clients for _, clients, names in ratios.WORKLOADS if name in names}
        assert asked == measured_with
    assert not re.search(r"hot-|zipf-|tiny-", ratios.chart(stored))


def test_the_committed_chart_is_the_one_of_the_committed_results() -> None:
    committed = document.ROOT / "docs/images" / plots.RATIOS
    assert committed.read_text(encoding="utf-8") == ratios.chart(document.read(STORED))


def test_both_charts_are_drawn_where_their_results_are(tmp_path: Path) -> None:
    assert list(plots.draw({}, tmp_path)) == []
    assert list(plots.draw(document.read(STORED), tmp_path)) == ["ratios.svg", "throughput.svg"]
    for file in tmp_path.iterdir():
        ElementTree.parse(file)
