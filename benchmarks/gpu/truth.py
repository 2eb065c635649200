"""Checks that a response is from the right model, by comparison with its expected response on the CPU."""

import json
from collections.abc import Iterable
from typing import Any

from benchmarks.gpu.callers import OK, Ask, CallerAnswer, text_of
from benchmarks.gpu.day import Day

# On a CPU bfloat16 moves the scores of these bert-bases by up to 0.003, the sign of one of the 17 weight
# matrices that were tried by 0.03 to 0.25
TOLERANCE = 0.01
Expected = tuple[str, float]  # label, score


class Truth:
    """Models are served as `m<number of the artifact>`, or `m<number>-<copy>`."""

    def __init__(self, day: Day) -> None:
        stored = day.expected()
        self.texts: list[str] = stored["texts"]
        self._answers: list[list[Expected]] = stored["answers"]

    def ask(self, model: str, number: int) -> Ask:
        """The `number`-th text, counted round and round."""
        return text_of(model, self.texts[number % len(self.texts)])

    def right(self, answer: CallerAnswer) -> bool:
        return answer.status == OK and self.difference(answer) <= TOLERANCE

    def difference(self, answer: CallerAnswer) -> float:
        """Difference of the scores; infinite if the label differs or is missing."""
        model = int(answer.ask.model.removeprefix("m").partition("-")[0])
        text = self.texts.index(answer.ask.document["inputs"])
        return difference(answer.body, self._answers[model][text])

    def verdict(self, answers: Iterable[CallerAnswer]) -> dict[str, Any]:
        """Summary of the responses with status 200."""
        gaps = [self.difference(answer) for answer in answers if answer.status == OK]
        fine = [gap for gap in gaps if gap <= TOLERANCE]
        return {
            "compared": len(gaps),
            "wrong": len(gaps) - len(fine),
            "largest_difference_of_right": max(fine, default=None),
        }


def difference(body: bytes, expected: Expected) -> float:
    try:
        first = json.loads(body)
        first = first[0] if isinstance(first, list) else first
        label, score = first["label"], float(first["score"])
    except (ValueError, KeyError, TypeError, IndexError):
        return float("inf")
    return abs(score - expected[1]) if label == expected[0] else float("inf")
