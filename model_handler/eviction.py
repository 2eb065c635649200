"""Choosing who leaves the device: a pure decision over plain records."""

from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Candidate:
    """A model on the device. `used` orders candidates: the smaller, the longer ago."""

    model_id: int
    nbytes: int
    used: int
    leased: bool


@dataclass(frozen=True, slots=True)
class Choice:
    """`leave`: demote now. `wait`: still leased, to be demoted once their leases end."""

    leave: tuple[int, ...]
    wait: tuple[int, ...]


def choose(candidates: Iterable[Candidate], needed: int) -> Choice:
    """The least recently used models that together free `needed` bytes, idle ones before leased.

    When even all of them do not free enough, all are chosen: the caller knows what can fit at all.
    """
    leave: list[int] = []
    wait: list[int] = []
    for candidate in sorted(candidates, key=lambda one: (one.leased, one.used)):
        if needed <= 0:
            break
        (wait if candidate.leased else leave).append(candidate.model_id)
        needed -= candidate.nbytes
    return Choice(tuple(leave), tuple(wait))
