"""Selection of instance and variant."""

import pytest

from emulator.hosting.routing import RoutingCandidate, choose_instance, choose_variant


@pytest.mark.parametrize(
    ("candidates", "chosen"),
    [
        ([(False, 0), (True, 3)], 1),  # it has the model
        ([(True, 2), (True, 1)], 1),  # the less busy of two instances with the model
        ([(True, 4), (False, 1)], 1),  # hot: use another instance
        ([(True, 4), (False, 9)], 0),  # hot, but the other is busier still
    ],
)
def test_instance(candidates: list[tuple[bool, int]], chosen: int) -> None:
    assert choose_instance([RoutingCandidate(*c) for c in candidates], turn=0, hot=4) == chosen


def test_models_that_no_instance_has_are_distributed_round_robin() -> None:
    idle = [RoutingCandidate(False, 0)] * 3
    assert [choose_instance(idle, turn, hot=4) for turn in range(4)] == [0, 1, 2, 0]


@pytest.mark.parametrize(
    ("weights", "chance", "name"),
    [
        ({"a": 9.0, "b": 1.0}, 0.89, "a"),
        ({"a": 9.0, "b": 1.0}, 0.91, "b"),
        ({"a": 0.0, "b": 1.0}, 0.0, "b"),
        ({"a": 0.0, "b": 0.0}, 0.6, "b"),
        ({"a": 1.0, "b": 0.0}, 0.999999, "a"),
    ],
)
def test_variant(weights: dict[str, float], chance: float, name: str) -> None:
    assert choose_variant(weights, chance) == name
