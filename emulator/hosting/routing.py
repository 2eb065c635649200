"""Selection of the variant and the instance for an invocation: pure functions of their arguments."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from emulator.interfaces import Invocation
from emulator.invocation_errors import invalid
from emulator.records import ModelSpec


@dataclass(frozen=True, slots=True)
class RoutingCandidate:
    """The state of an instance in service that routing uses."""

    holds_model: bool
    outstanding: int


def choose_instance(candidates: Sequence[RoutingCandidate], turn: int, hot: int) -> int:
    """The index of the chosen candidate; `turn` counts the choices made before.

    Chooses the least busy instance that has the model, unless that one is hot. Otherwise chooses
    among the least busy of all instances, round robin.
    """
    holders = [i for i, candidate in enumerate(candidates) if candidate.holds_model]
    if holders:
        best = min(holders, key=lambda i: candidates[i].outstanding)
        if candidates[best].outstanding < hot:
            return best
    least = min(candidate.outstanding for candidate in candidates)
    free = [i for i, candidate in enumerate(candidates) if candidate.outstanding == least]
    return free[turn % len(free)]


def choose_variant(weights: Mapping[str, float], chance: float) -> str:
    """Chooses by weight, or evenly if all weights are 0. `chance` is a random number in [0, 1)."""
    names = list(weights)
    total = sum(weights.values())
    if total <= 0:
        return names[int(chance * len(names))]
    remaining = chance * total
    for name in names:
        remaining -= weights[name]
        if remaining < 0:
            return name
    return next(name for name in reversed(names) if weights[name] > 0)


def check_variant(endpoint: str, names: Sequence[str], requested: str) -> str:
    """Raises InvocationFailed."""
    if requested not in names:
        raise invalid(
            f"Variant {requested} not found for endpoint {endpoint}. Please check the target variant."
        )
    return requested


def check_target(endpoint: str, model: ModelSpec, invocation: Invocation, request_id: str) -> None:
    """Raises InvocationFailed if the target headers do not fit the kind of model."""
    if model.multi_model and not invocation.target_model:
        raise invalid(
            f"Request {request_id} is missing a target model header. Invoking a multi-model endpoint "
            "requires a target model header."
        )
    if invocation.target_model and not model.multi_model:
        raise invalid(
            f"Endpoint {endpoint} is not a multi-model endpoint and does not support target model "
            "header."
        )
    if invocation.target_container:
        raise invalid(
            f"Endpoint {endpoint} does not support target container hostname header: its "
            "containers are invoked one after the other."
        )
