"""python -m benchmarks.demo_animation [--record]

Writes docs/images/demo.svg: a terminal that shows `make demo` with the pauses of the recorded run.
`--record` runs scripts/demo.py first and stores its lines and their times in results/demo.json. Where the
reader prefers reduced motion, or CSS is not animated, the picture shows all lines at once.
"""

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from html import escape
from pathlib import Path

from benchmarks.svg import Card

ROOT = Path(__file__).parent.parent
RECORDING = ROOT / "benchmarks/results/demo.json"
PICTURE = ROOT / "docs/images/demo.svg"
PROMPT = "$ make demo"
TITLE = f"{PROMPT}: what it prints, line by line"
LOG = "platform: "  # lines of the local SageMaker
LOG_LINES = 9  # the first load of each model
COLUMNS, LINE, MARGIN, BAR = 104, 18, 16, 30
LINGER_S = 6.0  # before it starts again
STYLE = (
    "text{font:12.5px ui-monospace,SFMono-Regular,Menlo,Consolas,'DejaVu Sans Mono',monospace;"
    "fill:#e6edf3;white-space:pre} .prompt{fill:#7ee787} .refused{fill:#ffa657}"
    " .unloaded{fill:#8b949e} .loaded{fill:#79c0ff}"
)
MOVING = "@media (prefers-reduced-motion: no-preference) {"


@dataclass(frozen=True)
class Printed:
    """`at_s`: since the start of the command."""

    at_s: float
    text: str


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--record", action="store_true", help="run the demo instead of reading it")
    if parser.parse_args().record:
        write(record([sys.executable, "scripts/demo.py"]), RECORDING)
    PICTURE.write_text(animation(read(RECORDING)), encoding="utf-8")


def record(command: Sequence[str]) -> list[Printed]:
    """Run the command and record its lines with their times. Raises CalledProcessError if it fails."""
    began = time.perf_counter()
    with subprocess.Popen(
        command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as process:
        assert process.stdout is not None
        printed = [
            Printed(round(time.perf_counter() - began, 3), line.rstrip("\n"))
            for line in process.stdout
        ]
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, command)
    return printed


def write(printed: Sequence[Printed], file: Path) -> None:
    lines = ",\n".join(json.dumps(asdict(each), ensure_ascii=False) for each in printed)
    file.write_text(f"[\n{lines}\n]\n", encoding="utf-8")


def read(file: Path) -> list[Printed]:
    return [Printed(**each) for each in json.loads(file.read_text(encoding="utf-8"))]


def shown(printed: Sequence[Printed]) -> list[Printed]:
    """The lines for the animation: steps, the first loads and the table of answers. Omitted lines are
    counted."""
    end = next(number for number, each in enumerate(printed) if each.text.startswith("4."))
    kept = [each for each in printed[:end] if each.text.strip()]
    log = [each for each in kept if each.text.startswith(LOG)]
    cut = log[LOG_LINES:]
    more = (
        [Printed(cut[-1].at_s, f"… {len(cut)} more lines of loads, refusals and unloads")]
        if cut
        else []
    )
    steps = [each for each in kept if each not in log]
    return sorted([*steps, *log[:LOG_LINES], *more], key=lambda each: each.at_s)


def animation(printed: Sequence[Printed]) -> str:
    lines = [Printed(0.0, PROMPT), *shown(printed)]
    length_s = lines[-1].at_s + LINGER_S
    height = BAR + MARGIN * 2 + LINE * len(lines)
    card = Card(MARGIN * 2 + COLUMNS * 8, height, background="#0d1117", border="#484f58")
    moments = (_moment(number, each.at_s, length_s) for number, each in enumerate(lines))
    style = "\n".join((STYLE, MOVING, *moments, "}"))
    drawn = (_line(number, each.text) for number, each in enumerate(lines))
    return card.svg(TITLE, style, [*_buttons(), *drawn])


def _buttons() -> Iterator[str]:
    for number, colour in enumerate(("#ff5f57", "#febc2e", "#28c840")):
        yield f'<circle cx="{MARGIN + 4 + 18 * number}" cy="18" r="5" fill="{colour}"/>'


def _moment(number: int, at_s: float, length_s: float) -> str:
    """CSS that shows a line from its time on, in a loop of the run and a pause."""
    share = at_s / length_s * 100
    return (
        f".l{number}{{animation:a{number} {length_s:.2f}s step-end infinite}}"
        f"@keyframes a{number}{{0%{{opacity:{int(number == 0)}}}"
        f"{share:.2f}%,100%{{opacity:1}}}}"
    )


def _line(number: int, text: str) -> str:
    y = BAR + MARGIN + LINE * number + 8
    cut = text if len(text) <= COLUMNS else text[: COLUMNS - 1] + "…"
    return (
        f'<text xml:space="preserve" x="{MARGIN}" y="{y}" class="l{number} {_kind(text)}">'
        f"{escape(cut)}</text>"
    )


def _kind(text: str) -> str:
    kinds = {PROMPT: "prompt", "refused": "refused", "unloaded": "unloaded", "loaded": "loaded"}
    log = text == PROMPT or text.startswith(LOG)
    return next((kind for word, kind in kinds.items() if log and word in text), "plain")


if __name__ == "__main__":
    main()
