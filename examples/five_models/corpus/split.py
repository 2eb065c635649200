"""Split of the generated examples into training and held-out examples.

A word combination belongs to one of the two, by its hash: training examples contain no held-out combination.
"""

from __future__ import annotations

import random
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Generic, TypeAlias, TypeVar

HELD_OUT_SHARE = 12  # one combination in twelve

Wanted = TypeVar("Wanted")


@dataclass(frozen=True, slots=True)
class Example(Generic[Wanted]):
    """A generated text, its expected answer and the word combinations that it contains."""

    text: str
    target: Wanted
    combinations: tuple[str, ...]

    @property
    def is_held_out(self) -> bool:
        return any(is_held_out(combination) for combination in self.combinations)


Generator: TypeAlias = Callable[[random.Random], Example[Wanted]]


def is_held_out(combination: str) -> bool:
    return zlib.crc32(combination.encode()) % HELD_OUT_SHARE == 0


def training(generate: Generator[Wanted], seed: int) -> Iterator[Example[Wanted]]:
    """Unlimited examples without held-out combinations."""
    rng = random.Random(seed)
    while True:
        example = generate(rng)
        if not example.is_held_out:
            yield example


def held_out(generate: Generator[Wanted], count: int, seed: int = 20_261) -> list[Example[Wanted]]:
    """`count` different examples, each with a combination that training never contains."""
    rng = random.Random(seed)
    found: dict[str, Example[Wanted]] = {}
    while len(found) < count:
        example = generate(rng)
        if example.is_held_out:
            found.setdefault(example.text, example)
    return list(found.values())
