"""python -m examples.five_models.readme

Writes the table of measured scores into README.md, from accuracy.json.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parent
BEGIN, END = "<!-- scores: written by readme.py -->\n", "<!-- end of scores -->"
DESCRIPTIONS = {
    "sentiment": ("DistilBERT", "NEGATIVE or POSITIVE"),
    "translation_en_de": ("Marian", "English to German"),
    "summarization": ("BART", "a short report to one sentence"),
    "ner": ("BERT", "names: PER, ORG, LOC, MISC"),
    "news_topics": ("BERT", "World, Sports, Business, Sci/Tech"),
}


def table(scores: Mapping[str, Mapping[str, Any]]) -> str:
    header = "| model | architecture | answers | measured on held-out text | training |\n"
    rows = [_row(name, entry) for name, entry in scores.items()]
    return header + "|---|---|---|---|---|\n" + "".join(rows)


def _row(name: str, entry: Mapping[str, Any]) -> str:
    architecture, answers = DESCRIPTIONS[name]
    measured = f"{entry['metric']} {entry['score']:.3f} ({entry['held_out']} examples)"
    return (
        f"| `{name}` | {architecture} | {answers} | {measured} | {entry['training_seconds']} s |\n"
    )


def main() -> None:
    path = FOLDER / "README.md"
    scores = json.loads((FOLDER / "accuracy.json").read_text())
    before, _, rest = path.read_text().partition(BEGIN)
    after = rest.partition(END)[2]
    path.write_text(before + BEGIN + table(scores) + END + after)


if __name__ == "__main__":
    main()
