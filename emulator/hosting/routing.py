"""Who answers an invocation: choices from plain records, without clock or chance of their own."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from emulator.interfaces import Invocation
from emulator.invocation_errors import invalid
from emulator.records import ModelSpec


@dataclass(frozen=True, slots=True)
class RoutingCandidate:
    """An instance in service, as far as routing goes."""

    holds_model: bool
    outstanding: int


def choose_instance(candidates: Sequence[RoutingCandidate], turn: int, hot: int) -> int:
    """The index of the one to take, given how many choices were made before.

    The least busy one that holds the model, unless it is hot; then, as for a model that none holds,
    the next in turn among the least busy of all.
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
    """By weight; `chance` is in [0, 1). Without any weight all are alike."""
    names = list(weights)
    total = sum(weights.values())
    if total <= 0:
        return names[int(chance * len(names))]
    mark = chance * total
    for name in names:
        mark -= weights[name]
        if mark < 0:
            return name
    return next(name for name in reversed(names) if weights[name] > 0)


def check_variant(endpoint: str, names: Sequence[str], wanted: str) -> str:
    """Raises InvocationFailed."""
    if wanted not in names:
        raise invalid(
            f"Variant {wanted} not found for endpoint {endpoint}. Please check the target variant."
        )
    return wanted


def check_target(endpoint: str, model: ModelSpec, invocation: Invocation, request: str) -> None:
    """Raises InvocationFailed where the target does not go with the model."""
    multi_model = any(container.multi_model for container in model.containers)
    if multi_model and not invocation.target_model:
        raise invalid(
            f"Request {request} is missing a target model header. Invoking a multi-model endpoint "
            "requires a target model header."
        )
    if invocation.target_model and not multi_model:
        raise invalid(
            f"Endpoint {endpoint} is not a multi-model endpoint and does not support target model "
            "header."
        )
    if invocation.target_container:
        raise invalid(
            f"Endpoint {endpoint} does not support target container hostname header: its "
            "containers are invoked one after the other."
        )
