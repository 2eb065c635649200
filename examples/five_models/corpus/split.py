"""Which generated examples may be trained on and which are held out.

A combination of words belongs to one side for ever: training never sees a held-out combination.
"""

from __future__ import annotations

import random
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Generic, TypeAlias, TypeVar

HELD_OUT_SHARE = 12  # one combination in twelve

Target = TypeVar("Target")


@dataclass(frozen=True, slots=True)
class Example(Generic[Target]):
    """One generated text, its expected answer and the word combinations it was made from."""

    text: str
    target: Target
    combinations: tuple[str, ...]

    @property
    def is_held_out(self) -> bool:
        return any(is_held_out(combination) for combination in self.combinations)


Generator: TypeAlias = Callable[[random.Random], Example[Target]]


def is_held_out(combination: str) -> bool:
    return zlib.crc32(combination.encode()) % HELD_OUT_SHARE == 0


def training(generate: Generator[Target], seed: int) -> Iterator[Example[Target]]:
    """An endless stream without a single held-out combination."""
    rng = random.Random(seed)
    while True:
        example = generate(rng)
        if not example.is_held_out:
            yield example


def held_out(generate: Generator[Target], count: int, seed: int = 20_261) -> list[Example[Target]]:
    """`count` different examples, each with a combination that training never contains."""
    rng = random.Random(seed)
    found: dict[str, Example[Target]] = {}
    while len(found) < count:
        example = generate(rng)
        if example.is_held_out:
            found.setdefault(example.text, example)
    return list(found.values())
