"""The eviction policy: which models to demote from a full device, as pure functions of plain records.

Greedy-Dual-Size-Frequency (Cherkasova, HPL-98-69, 1998; Arlitt et al., 2000): a model's priority is the
clock at its last use, plus the cost of its return times the frequency of its use, divided by its bytes.
Every eviction advances the clock to the priority of the evicted model, so that unused models fall behind.
At cost 0 all priorities are equal, and the least recently used model is evicted. docs/sizing.md compares
the two policies.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

Cost = Callable[[int], float]  # bytes of a model -> cost of its promotion, in any one unit

FIXED_NBYTES = 100_000_000  # bytes that could be copied in the fixed time of a promotion
HALF_LIFE = 2  # uses of all models, per registered model, until a use counts half
POLICIES: dict[str, Cost] = {"lru": lambda _: 0.0, "gdsf": lambda nbytes: FIXED_NBYTES + nbytes}


@dataclass(frozen=True, slots=True)
class Now:
    """Totals over all models: their number, and their `uses` so far, including the present one.

    `clock`: the highest priority of any model evicted so far.
    """

    uses: int
    clock: float
    models: int


@dataclass(frozen=True, slots=True)
class Standing:
    """The usage record of one model. `used`: `Now.uses` at its last use. `frequency`: its uses, with
    exponential decay."""

    used: int = 0
    frequency: float = 0.0
    priority: float = 0.0


@dataclass(frozen=True, slots=True)
class Candidate:
    """A model on the device. Among equal priorities, the model with the smallest `used` is evicted first.

    `key`: the caller's, hashable.
    """

    key: Any
    nbytes: int
    priority: float
    used: int
    leased: bool


@dataclass(frozen=True, slots=True)
class Choice:
    """`leave`: models to demote now. `wait`: leased models, to demote once their leases end.

    `clock`: the highest priority in `leave`, 0 if it is empty.
    """

    leave: tuple[Any, ...]
    wait: tuple[Any, ...]
    clock: float


def use(before: Standing, nbytes: int, now: Now, cost: Cost) -> Standing:
    """The usage record of a model of `nbytes` after its present use."""
    age = (now.uses - before.used) / (HALF_LIFE * now.models)
    frequency = before.frequency * 0.5**age + 1
    priority = now.clock + frequency * cost(nbytes) / max(nbytes, 1)
    return Standing(now.uses, frequency, priority)


def choose(candidates: Iterable[Candidate], needed: int) -> Choice:
    """Choose models that together free `needed` bytes, idle before leased, the lowest priority first.

    The choice is minimal: without any one of its models, it would not free enough. If all candidates
    together do not free enough, all that free anything are chosen; the caller checks that case.
    """
    chosen = _without_superfluous(_enough(candidates, needed), needed)
    leave = [one for one in chosen if not one.leased]
    return Choice(
        tuple(one.key for one in leave),
        tuple(one.key for one in chosen if one.leased),
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
    """Drop small models from the choice if a larger model, chosen later, frees enough."""
    over = sum(one.nbytes for one in chosen) - needed
    kept = []
    for candidate in reversed(chosen):
        if candidate.nbytes <= over:
            over -= candidate.nbytes
        else:
            kept.append(candidate)
    return kept[::-1]
