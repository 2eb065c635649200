"""The animation of `make demo` shows the lines of a recorded run at their recorded times."""

import re
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest

from benchmarks import demo_animation
from benchmarks.demo_animation import Printed

TEXT = "{http://www.w3.org/2000/svg}text"
RUN = [
    Printed(1.0, "1. start"),
    Printed(2.0, ""),
    *(Printed(3.0 + number, f"platform: loaded target={number} ms=1") for number in range(11)),
    Printed(14.0, "milliseconds  answer"),
    Printed(14.0, 'news  [{"label":"<&>"}]' + "x" * 200),
    Printed(15.0, "4. what the platform counted"),
]


def lines(svg: str) -> list[str]:
    return ["".join(each.itertext()) for each in ElementTree.fromstring(svg).iter(TEXT)]


def test_steps_first_loads_and_answers_are_shown_and_the_rest_is_counted() -> None:
    texts = [each.text for each in demo_animation.shown(RUN)]
    assert texts[0] == "1. start"
    assert [text for text in texts if text.startswith("platform")] == [
        f"platform: loaded target={number} ms=1" for number in range(9)
    ]
    assert texts[10:12] == ["… 2 more lines of loads, refusals and unloads", "milliseconds  answer"]
    assert texts[-1].startswith("news")


def test_a_line_appears_at_its_time_in_the_run() -> None:
    """One loop of the animation is the run of 14 s and the pause."""
    svg = demo_animation.animation(RUN)
    length = 14.0 + demo_animation.LINGER_S
    assert f"animation:a1 {length:.2f}s" in svg
    assert f"@keyframes a1{{0%{{opacity:0}}{100 / length:.2f}%,100%{{opacity:1}}}}" in svg


def test_nothing_moves_and_all_is_shown_where_motion_is_not_wanted() -> None:
    svg = demo_animation.animation(RUN)
    still, _, moving = svg.partition("@media (prefers-reduced-motion: no-preference) {")
    moving, _, drawn = moving.partition("}</style>")
    assert "animation" in moving
    assert "animation:" not in still + drawn
    assert "opacity" not in still + drawn


def test_text_is_escaped_and_cut_to_the_terminal() -> None:
    last = lines(demo_animation.animation(RUN))[-1]
    assert last.startswith('news  [{"label":"<&>"}]xxx')
    assert len(last) == demo_animation.COLUMNS
    assert last.endswith("…")


def test_a_recording_has_lines_and_times_and_survives_its_file(tmp_path: Path) -> None:
    printed = demo_animation.record([sys.executable, "-c", "print('one ü\\n\\ntwo')"])
    assert [each.text for each in printed] == ["one ü", "", "two"]
    assert 0 < printed[0].at_s <= printed[2].at_s
    demo_animation.write(printed, tmp_path / "run.json")
    assert demo_animation.read(tmp_path / "run.json") == printed


def test_a_run_that_fails_is_not_a_recording() -> None:
    with pytest.raises(subprocess.CalledProcessError):
        demo_animation.record([sys.executable, "-c", "raise SystemExit(3)"])


def test_the_committed_picture_shows_the_committed_recording() -> None:
    recorded = demo_animation.read(demo_animation.RECORDING)
    svg = demo_animation.PICTURE.read_text(encoding="utf-8")
    assert svg == demo_animation.animation(recorded)
    texts = {each.text for each in recorded}
    for line in lines(svg)[1:]:
        whole = any(text.startswith(line.rstrip("…")) for text in texts)
        assert whole or re.fullmatch(r"… \d+ more lines of .*", line)
