"""Choosing who leaves the device: a pure decision over plain records.

Greedy-Dual-Size-Frequency (Cherkasova, HPL-98-69, 1998; Arlitt et al., 2000): a model's priority is the
clock when it was last used, plus what its return costs times how often it is used, per byte; whoever
leaves takes the clock up to its own priority, so that what is no longer used falls behind. At cost 0
all priorities are equal and the least recently used leaves. docs/sizing.md compares them.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

Cost = Callable[[int], float]  # of bringing a model of so many bytes back, in any one unit

FIXED_NBYTES = 100_000_000  # could be copied in the time that any return needs besides its copy
HALF_LIFE = 2  # uses of all models together, per model there is, until a use counts half
POLICIES: dict[str, Cost] = {"lru": lambda _: 0.0, "gdsf": lambda nbytes: FIXED_NBYTES + nbytes}


@dataclass(frozen=True, slots=True)
class Now:
    """Of all models: how many there are, and their `uses` so far, this one included.

    `clock`: the highest priority that has left until now.
    """

    uses: int
    clock: float
    models: int


@dataclass(frozen=True, slots=True)
class Standing:
    """What a model's uses count for. `used`: `uses` at its last one. `frequency`: its uses, aged."""

    used: int = 0
    frequency: float = 0.0
    priority: float = 0.0


@dataclass(frozen=True, slots=True)
class Candidate:
    """A model on the device. `used` orders equal priorities: the smaller, the longer ago."""

    model_id: int
    nbytes: int
    priority: float
    used: int
    leased: bool


@dataclass(frozen=True, slots=True)
class Choice:
    """`leave`: demote now. `wait`: still leased, to be demoted once their leases end.

    `clock`: the highest priority among those that leave now, 0 for nobody.
    """

    leave: tuple[int, ...]
    wait: tuple[int, ...]
    clock: float


def use(before: Standing, nbytes: int, now: Now, cost: Cost) -> Standing:
    """The standing of a model that is used now and holds `nbytes`."""
    age = (now.uses - before.used) / (HALF_LIFE * now.models)
    frequency = before.frequency * 0.5**age + 1
    priority = now.clock + frequency * cost(nbytes) / max(nbytes, 1)
    return Standing(now.uses, frequency, priority)


def choose(candidates: Iterable[Candidate], needed: int) -> Choice:
    """Models that together free `needed` bytes, idle ones before leased, the lowest priority first.

    Without any one of them it would not be enough. When even all candidates do not free enough, all
    that free anything are chosen: the caller knows what can fit at all.
    """
    chosen = _without_superfluous(_enough(candidates, needed), needed)
    leave = [one for one in chosen if not one.leased]
    return Choice(
        tuple(one.model_id for one in leave),
        tuple(one.model_id for one in chosen if one.leased),
        max((one.priority for one in leave), default=0.0),
    )


def _enough(candidates: Iterable[Candidate], needed: int) -> list[Candidate]:
    chosen = []
    for candidate in sorted((one for one in candidates if one.nbytes), key=_order):
        if needed <= 0:
            break
        chosen.append(candidate)
        needed -= candidate.nbytes
    return chosen


def _order(candidate: Candidate) -> tuple[bool, float, int]:
    return candidate.leased, candidate.priority, candidate.used


def _without_superfluous(chosen: list[Candidate], needed: int) -> list[Candidate]:
    """Small models that went first are kept where a later, larger one is enough."""
    over = sum(one.nbytes for one in chosen) - needed
    kept = []
    for candidate in reversed(chosen):
        if candidate.nbytes <= over:
            over -= candidate.nbytes
        else:
            kept.append(candidate)
    return kept[::-1]
